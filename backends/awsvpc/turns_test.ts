import assert from "node:assert/strict";
import { turnOf } from "./turns.ts";

Deno.test("all nodes agree on the order, and the first turns are spread over them", () => {
  const nodes = Array.from({ length: 50 }, (_, index) => `10.1.${index}.0/24`);
  const firsts = new Map<string, number>();
  for (let event = 0; event < 500; event++) {
    const subnet = `10.2.${event >> 4}.${(event & 15) * 16}/28`;
    const turns = nodes.map((node) =>
      turnOf([subnet], node, nodes.filter((other) => other !== node))
    );
    assert.deepEqual(turns.toSorted((a, b) => a - b), nodes.map((_, index) => index));
    const first = nodes[turns.indexOf(0)];
    firsts.set(first, (firsts.get(first) ?? 0) + 1);
  }
  assert.equal(firsts.size, nodes.length);
  // 10 each on average.
  assert.ok(Math.max(...firsts.values()) < 40, `${[...firsts.values()]}`);
});
