import assert from "node:assert/strict";
import { type Facts, noFacts, type VpcView } from "../../testbed/lab/facts.ts";
import { labSteps } from "../../testbed/lab/run.ts";

const DOCS = new URL("../../docs/lab.md", import.meta.url);

/** What the lab learns where it goes as in the text. */
function factsOf(text: string): Facts {
  const [subnetA, subnetB] = [...text.matchAll(/Allocated lease \((\S+)\)/g)].map(([, it]) => it);
  const second = (subnet: string) => subnet.replace(/0\/24$/, "2");
  const vpc: VpcView = {
    enis: { nodea: "", nodeb: "" },
    tableId: "",
    table: () => Promise.resolve(""),
  };
  return {
    ...noFacts("aws-vpc", vpc),
    nodea: { subnet: subnetA, container: second(subnetA) },
    nodeb: { subnet: subnetB, container: second(subnetB) },
    pod: second(subnetA),
  };
}

Deno.test("docs/lab.md has the lab's commands, all of them and in its order", () => {
  const text = Deno.readTextFileSync(DOCS);
  const prompts = /^ubuntu@(node[ab]):\S*\$ /gm;
  const wanted: string[] = [];
  for (const entry of labSteps(factsOf(text))) {
    if ("command" in entry) wanted.push(`${entry.on}$ ${entry.command}`);
    if ("running" in entry) wanted.push(`${entry.on}$ ${entry.running}`);
  }
  const found = [...text.matchAll(prompts)].map((match, index) => {
    const from = match.index + match[0].length;
    const typed = wanted[index]?.split("$ ").slice(1).join("$ ") ?? "";
    const there = text.slice(from, from + typed.length + 1);
    return `${match[1]}$ ${there === `${typed}\n` ? typed : there.split("\n")[0]}`;
  });
  assert.deepEqual(found, wanted);
});
