/**
 * `deno task bench [NAME…] [--agents ours,go] [--json FILE]`: measures the agent against its goals,
 * and against the Go agent where GO_FLANNELD names one. Needs root and the Debian packages of the
 * tests; all traffic is in namespaces of its own.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { requireRoot } from "../../tests/lib/netns.ts";
import { idle } from "./idle.ts";
import { latency } from "./latency.ts";
import { type Benchmark, findContenders, type Row } from "./lib.ts";
import { peers } from "./peers.ts";
import { start } from "./start.ts";
import { vxlan } from "./vxlan.ts";

const BENCHMARKS: Record<string, Benchmark> = { start, peers, latency, idle, vxlan };

const HEAD = ["figure", "ours", "peer", "ratio", "goal"];

function number(value: number | undefined): string {
  if (value === undefined) return "-";
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

function cells({ figure, ours, peer, peerName, goal, met }: Row): string[] {
  const ratio = ours !== undefined && peer ? `${(ours / peer).toFixed(2)}x` : "-";
  const verdict = met === undefined ? "" : met ? " (met)" : " (missed)";
  const other = peer === undefined ? "-" : `${number(peer)} ${peerName}`;
  return [figure, number(ours), other, ratio, goal === "" ? "-" : goal + verdict];
}

/** A table in Markdown, columns aligned. */
function table(rows: Row[]): string {
  const lines = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const text = (line: string[]) =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [text(lines[0]), rule, ...lines.slice(1).map(text)].join("\n");
}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { json: { type: "string" }, agents: { type: "string" } },
  });
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHMARKS);
  const unknown = names.find((name) => !(name in BENCHMARKS));
  if (unknown !== undefined) {
    console.error(`bench: no ${unknown}; there are ${Object.keys(BENCHMARKS).join(", ")}`);
    return 2;
  }
  requireRoot();
  const wanted = values.agents?.split(",");
  const contenders = (await findContenders()).filter(({ name }) => wanted?.includes(name) ?? true);
  for (const { name, what } of contenders) console.log(`${name}: ${what}`);
  const rows: Row[] = [];
  for (const name of names) {
    console.error(`bench: ${name} ...`);
    rows.push(...await BENCHMARKS[name](contenders));
  }
  console.log(table(rows));
  if (values.json !== undefined) {
    const report = { date: new Date().toISOString(), contenders, rows };
    await Deno.writeTextFile(values.json, `${JSON.stringify(report, null, 2)}\n`);
  }
  return rows.some(({ met }) => met === false) ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
