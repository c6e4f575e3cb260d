/**
 * `deno task bench [NAME…] [--agents ours,go] [--json FILE] [--svg FILE]`: measures the agent against
 * its goals, and against the Go agent where GO_FLANNELD names one. What compares several ways of one
 * measure (`tunnel`) is a table of its own, and a picture at `--svg`. Needs root and the Debian packages of the
 * tests; all traffic is in namespaces of its own.
 *
 * `idle [--minutes 30]`, `soak [--minutes 30] [--nodes 1000] [--rate 20]`, `herd [--real 20]` and
 * `costs` run only where they are named.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { requireRoot } from "../../testbed/netns.ts";
import { aws } from "./aws.ts";
import { chart, type Panel, significant } from "./chart.ts";
import { cni } from "./cni.ts";
import { costs } from "./costs.ts";
import { herd } from "./herd.ts";
import { idle } from "./idle.ts";
import { latency } from "./latency.ts";
import { type Benchmark, type Contender, findContenders, type Report, type Row } from "./lib.ts";
import { manyPeers } from "./many_peers.ts";
import { peers } from "./peers.ts";
import { soak, type SoakOptions } from "./soak.ts";
import { start } from "./start.ts";
import { tunnel } from "./tunnel.ts";
import { vxlan } from "./vxlan.ts";

/** Those that run where none is named. */
const BENCHMARKS: Record<string, Benchmark> = {
  start: rowsOnly(start),
  peers: rowsOnly(peers),
  latency: rowsOnly(latency),
  vxlan: rowsOnly(vxlan),
  cni: rowsOnly(cni),
  tunnel,
  aws: rowsOnly(aws),
  memory: rowsOnly(manyPeers),
};

const CAPTION =
  `deno task bench tunnel: two namespaces on one veth pair, MTU 1500, one machine of ` +
  `${navigator.hardwareConcurrency} CPUs, medians`;

const HEAD = ["figure", "ours", "peer", "ratio", "goal"];

/** Those that take long, by their options. */
function longBenchmarks(options: SoakOptions & { real: number }) {
  return {
    idle: rowsOnly((contenders) => idle(contenders, options.minutes)),
    costs: rowsOnly(costs),
    herd: rowsOnly((contenders) => herd(contenders, options.real)),
    soak: rowsOnly((contenders) => soak(contenders, options)),
  } satisfies Record<string, Benchmark>;
}

function rowsOnly(measure: (contenders: Contender[]) => Promise<Row[]>): Benchmark {
  return async (contenders) => ({ rows: await measure(contenders), panels: [] });
}

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
function table(lines: string[][]): string {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const text = (line: string[]) =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [text(lines[0]), rule, ...lines.slice(1).map(text)].join("\n");
}

/** A line a way, a column a measure. */
function comparison(panels: Panel[]): string[][] {
  const names = [...new Set(panels.flatMap(({ bars }) => bars.map(({ name }) => name)))];
  const value = ({ bars }: Panel, name: string) => {
    const bar = bars.find((candidate) => candidate.name === name);
    return bar ? significant(bar.value) : "-";
  };
  return [
    ["path", ...panels.map(({ title, unit }) => `${title} (${unit})`)],
    ...names.map((name) => [name, ...panels.map((panel) => value(panel, name))]),
  ];
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  console.error(`bench: --${name}=${text} is no number above 0`);
  Deno.exit(2);
}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      json: { type: "string" },
      svg: { type: "string" },
      agents: { type: "string" },
      minutes: { type: "string", default: "30" },
      nodes: { type: "string", default: "1000" },
      rate: { type: "string", default: "20" },
      real: { type: "string", default: "20" },
    },
  });
  const all: Record<string, Benchmark> = {
    ...BENCHMARKS,
    ...longBenchmarks({
      minutes: positive("minutes", values.minutes),
      nodes: positive("nodes", values.nodes),
      rate: positive("rate", values.rate),
      real: positive("real", values.real),
    }),
  };
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHMARKS);
  const unknown = names.find((name) => !(name in all));
  if (unknown !== undefined) {
    console.error(`bench: no ${unknown}; there are ${Object.keys(all).join(", ")}`);
    return 2;
  }
  requireRoot();
  const wanted = values.agents?.split(",");
  const contenders = (await findContenders()).filter(({ name }) => wanted?.includes(name) ?? true);
  for (const { name, what } of contenders) console.log(`${name}: ${what}`);
  const rows: Row[] = [];
  const panels: Panel[] = [];
  for (const name of names) {
    console.error(`bench: ${name} ...`);
    const report: Report = await all[name](contenders);
    rows.push(...report.rows);
    panels.push(...report.panels);
  }
  if (panels.length > 0) console.log(`${table(comparison(panels))}\n`);
  console.log(table([HEAD, ...rows.map(cells)]));
  if (values.json !== undefined) {
    const report = { date: new Date().toISOString(), contenders, rows };
    await Deno.writeTextFile(values.json, `${JSON.stringify(report, null, 2)}\n`);
  }
  if (values.svg !== undefined && panels.length > 0) {
    await Deno.writeTextFile(values.svg, chart(panels, CAPTION));
  }
  return rows.some(({ met, goal }) => met === false && !goal.startsWith("aim")) ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
