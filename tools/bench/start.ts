/**
 * From the spawn to a written subnet.env, files in the page cache: on a host that has nothing yet, and
 * on one that had a lease before.
 *
 * @module
 */
import { Cluster, type Node } from "../../testbed/cluster.ts";
import { type Contender, DEVICE, exists, median, reset, type Row, row, timeStart } from "./lib.ts";

const ROUNDS = 10;

/** What is there when the agent starts; `ours`: Go flanneld would take another subnet. */
const CASES: { name: string; ours?: true; before(node: Node): Promise<void>; args?: string[] }[] = [
  { name: "start to subnet.env", before: reset },
  { name: "restart after kill -9", before: killed },
  { name: "restart without its files", before: forgotten },
  { name: "start after a reboot", before: rebooted },
  {
    name: "restart under another address",
    ours: true,
    before: killed,
    args: ["--public-ip=192.168.77.101"],
  },
  {
    name: "start after a reboot under another address",
    ours: true,
    before: rebooted,
    args: ["--public-ip=192.168.77.101"],
  },
];

/** See the module. */
export async function start(contenders: Contender[]): Promise<Row[]> {
  await using cluster = await Cluster.create({ label: "bstart", nodes: 1 });
  const rows: Row[] = [];
  for (const { name, ours, before, args } of CASES) {
    const samples: Record<string, number[]> = {};
    for (const contender of contenders.filter(({ name }) => !ours || name === "ours")) {
      const node = contender.on(cluster.node(0));
      // The first round warms the caches and is not counted.
      for (let round = 0; round <= ROUNDS; round++) {
        if (before !== reset) await timed(node);
        await before(node);
        const seconds = await timed(node, args);
        if (round > 0) (samples[contender.name] ??= []).push(seconds);
        await reset(node);
      }
    }
    rows.push(
      row(`${name}, median (s)`, samples, median, 0.3),
      row(`${name}, fastest (s)`, samples, (list) => Math.min(...list)),
      row(`${name}, slowest (s)`, samples, (list) => Math.max(...list)),
    );
  }
  return rows;
}

/** Seconds until a new subnet file is there, whether or not there was one. */
async function timed(node: Node, args: string[] = []): Promise<number> {
  const { startAgent, subnetFile } = node;
  const former = await exists(subnetFile) ? (await Deno.stat(subnetFile)).ino : undefined;
  const isNew = async () =>
    await exists(subnetFile) && (await Deno.stat(subnetFile)).ino !== former;
  node.startAgent = () => startAgent({ args });
  try {
    return await timeStart(node, isNew, 1, 20_000);
  } finally {
    node.startAgent = startAgent;
  }
}

async function killed({ agent }: Node): Promise<void> {
  agent!.kill("SIGKILL");
  await agent!.status;
}

async function forgotten(node: Node): Promise<void> {
  await killed(node);
  for (const path of [node.subnetFile, `${node.subnetFile}.lease`]) {
    await Deno.remove(path).catch(() => {});
  }
}

async function rebooted(node: Node): Promise<void> {
  await forgotten(node);
  await node.ns.run("ip", "link", "delete", DEVICE);
}
