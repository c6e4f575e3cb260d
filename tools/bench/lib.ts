/**
 * What the benchmarks share: the agents that are compared, a host to run them on, peers in etcd,
 * and how figures are told.
 *
 * @module
 */
import { type Cluster, GO_FLANNELD, GoNode, networkConfig, Node } from "../../testbed/cluster.ts";
import { type Process, waitFor } from "../../testbed/netns.ts";
import type { Panel } from "./chart.ts";
import type { StoreJob } from "./store.ts";

/** One line of the report. */
export interface Row {
  /** What was measured, with the unit: `start to subnet.env, median (s)`. */
  figure: string;
  ours: number | undefined;
  peer: number | undefined;
  /** What `peer` is: `Go flanneld`, `hand-made vxlan`. */
  peerName: string;
  /** Text of what is asked for: `<= 0.30`; empty where nothing is. */
  goal: string;
  /** Whether `ours` is within the goal; undefined without a goal or a figure. */
  met: boolean | undefined;
  /** The single measurements, by name. */
  samples: Record<string, number[]>;
}

/** An agent under measurement. */
export interface Contender {
  name: "ours" | "go";
  /** Makes it run on this host in place of the cluster's own choice. */
  on(node: Node): Node;
  /** What is executed, for the report. */
  what: string;
}

/** Name of the Go agent in the report. */
export const GO = "Go flanneld";

/** What a benchmark found: its figures, and what of them can be drawn. */
export interface Report {
  rows: Row[];
  panels: Panel[];
}

/** What one of something costs, with the unit in its name. */
export type Cost = [figure: string, value: number];

/** A benchmark: measures the contenders. */
export type Benchmark = (contenders: Contender[]) => Promise<Report>;

/** Network with room for 65,000 subnets. */
export const LARGE_NETWORK = { ...networkConfig(), Network: "10.0.0.0/8", SubnetLen: 24 };

/** The device of the vxlan backend. */
export const DEVICE = "flannel.1";

/** Flags of a plain node: no bridge, no health server. */
export const PLAIN = ["--bridge=", "--healthz-port=0"];
const GO_PLAIN = ["--healthz-port=0"];

/** The checkout. */
export const ROOT = new URL("../../", import.meta.url).pathname;

/** The agents that can be run here, ours first. */
export async function findContenders(): Promise<Contender[]> {
  const built = `${ROOT}dist/flanneld`;
  const binary = Deno.env.get("FLANNELD_BIN") ?? (await exists(built) ? built : undefined);
  const contenders: Contender[] = [
    { name: "ours", on: (node) => plainNode(Node, node, binary), what: binary || "the sources" },
  ];
  if (GO_FLANNELD) {
    contenders.push({ name: "go", on: (node) => plainNode(GoNode, node), what: GO_FLANNELD });
  }
  return contenders;
}

/** A host like the given one whose agent gets the flags of a plain node, and runs this binary. */
export function plainNode(
  kind: typeof Node,
  { cluster, index, ns, folder }: Node,
  binary?: string,
): Node {
  const node = new kind(cluster, index, ns, folder);
  const start = node.startAgent.bind(node);
  const plain = kind === GoNode ? GO_PLAIN : PLAIN;
  node.startAgent = (options = {}) =>
    start({ binary, ...options, args: [...plain, ...options.args ?? []] });
  return node;
}

/** Whether a file is there. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Starts an agent and gives the seconds from its spawn until `done`, asked every `everyMs`. */
export async function timeStart(
  node: Node,
  done: () => Promise<boolean>,
  everyMs: number,
  limitMs: number,
): Promise<number> {
  const started = performance.now();
  const agent = node.startAgent();
  try {
    await waitFor(async () => agent.ended || await done(), {
      intervalMs: everyMs,
      limitMs,
      what: "the agent",
    });
    if (agent.ended) throw new Error("the agent ended");
  } catch (error) {
    throw new Error(`${error}:\n${agent.lines.slice(-30).join("\n")}`);
  }
  return (performance.now() - started) / 1000;
}

/** Waits until a host's agent has written its subnet file; an agent that ends is an error. */
export async function waitSubnetFile(node: Node): Promise<void> {
  const { agent } = node;
  try {
    await waitFor(async () => agent?.ended || await exists(node.subnetFile), {
      limitMs: 20_000,
      what: node.subnetFile,
    });
    if (agent?.ended) throw new Error("the agent ended");
  } catch (error) {
    throw new Error(`${error}:\n${agent?.lines.slice(-30).join("\n")}`);
  }
}

/** Ends a host's agent and takes away all that it left: device, rules, file, leases but `peers`. */
export async function reset(node: Node, peers: "keep" | "delete" = "delete"): Promise<void> {
  const own = await ownLease(node);
  await node.agent?.[Symbol.asyncDispose]();
  await node.ns.exec("ip", "link", "delete", DEVICE);
  for (const tool of ["iptables-restore", "ip6tables-restore"]) {
    await node.ns.run("sh", "-c", `printf '*filter\\nCOMMIT\\n*nat\\nCOMMIT\\n' | ${tool}`);
  }
  for (const path of [node.subnetFile, `${node.subnetFile}.lease`]) {
    await Deno.remove(path).catch(() => {});
  }
  const { etcd } = node.cluster;
  if (peers === "delete") await etcd.ctl("del", "--prefix", "/coreos.com/network/subnets/");
  else if (own) await etcd.ctl("del", `/coreos.com/network/subnets/${own}`);
}

async function ownLease(node: Node): Promise<string | undefined> {
  if (!await exists(node.subnetFile)) return undefined;
  const { FLANNEL_SUBNET } = await node.env();
  return FLANNEL_SUBNET.replace(/\.1\/(\d+)$/, ".0-$1");
}

/** Writes the leases of peers number `first` and on into the cluster's etcd. */
export async function putPeers(
  cluster: Cluster,
  first: number,
  count: number,
  backend?: "udp",
): Promise<void> {
  const process = startStore(cluster.nodes[0], { job: "put", first, count, backend });
  await process.waitForLine(/^done$/, 60_000);
  await process.status;
}

/** Starts a program that talks to etcd from inside a host; it ends with the host. */
export function startStore(node: Node, job: StoreJob): Process {
  const args = ["run", "-A", "--no-check", `${ROOT}tools/bench/store.ts`];
  return node.ns.spawn(Deno.execPath(), [...args, node.cluster.etcd.endpoint, JSON.stringify(job)]);
}

/** A process inside a namespace that does nothing, so that `/proc/PID/net` shows its network. */
export function anchor(node: Node): Process {
  return node.ns.spawn("sleep", ["3600"]);
}

/**
 * IPv4 routes of a namespace, all tables: counted by the kernel, which is some hundred times cheaper
 * than listing them.
 */
export async function routeCount({ pid }: Process): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${pid}/net/fib_triestat`);
  const counts = [...text.matchAll(/^(Main|Local):$[\s\S]*?Prefixes:\s+(\d+)/gm)];
  // One trie under both names until there are policy rules.
  return Math.max(0, ...counts.map((match) => Number(match[2])));
}

/** How many entries our device has, by listing them. */
export async function deviceEntries(node: Node) {
  const count = async (...command: [string, ...string[]]) => {
    const text = await node.ns.run(...command);
    return text.split("\n").filter((line) => line !== "").length;
  };
  return {
    routes: await count("ip", "-4", "route", "show", "dev", DEVICE),
    neighbours: await count("ip", "-4", "neigh", "show", "dev", DEVICE, "nud", "permanent"),
    fdb: await count("bridge", "fdb", "show", "dev", DEVICE),
  };
}

/** Fails unless routes, neighbours and fdb entries are `count` each. */
export async function requireEntries(node: Node, count: number): Promise<void> {
  const entries = await deviceEntries(node);
  if (Object.values(entries).some((found) => found !== count)) {
    throw new Error(`${count} of each were to be there, but: ${JSON.stringify(entries)}`);
  }
}

/** The value below which the share `q` of the samples lies. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  return low + (sorted[Math.ceil(at)] - low) * (at - Math.floor(at));
}

/** The middle one. */
export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** A row against the Go agent, from the samples of both; a goal is a value not to be exceeded. */
export function row(
  figure: string,
  samples: { ours?: number[]; go?: number[] },
  summary: (samples: number[]) => number,
  most?: number,
): Row {
  const of = (list?: number[]) => list && list.length > 0 ? summary(list) : undefined;
  const ours = of(samples.ours);
  return {
    figure,
    ours,
    peer: of(samples.go),
    peerName: GO,
    goal: most === undefined ? "" : `<= ${most}`,
    met: most === undefined || ours === undefined ? undefined : ours <= most,
    samples: { ...samples },
  };
}

/** Memory in MB of 1,048,576 bytes. */
export interface Memory {
  resident: number;
  privateDirty: number;
}

/** Memory of a process and the children that it has now. */
export async function memory(pid: number): Promise<Memory> {
  const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  const parts = await Promise.all([
    memoryOf(pid),
    // One may end while it is looked at.
    ...children.split(" ").filter(Boolean).map((child) =>
      memoryOf(Number(child)).catch(() => ({ resident: 0, privateDirty: 0 }))
    ),
  ]);
  const sum = (key: keyof Memory) => parts.reduce((total, part) => total + part[key], 0);
  return { resident: sum("resident"), privateDirty: sum("privateDirty") };
}

/** Memory of a process alone. */
export async function memoryOf(pid: number): Promise<Memory> {
  const text = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  const of = (key: string) =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) / 1024;
  return { resident: of("Rss"), privateDirty: of("Private_Dirty") };
}

/** User and system time of a process and of its children that have ended (proc(5), stat). */
export async function cpuSeconds(pid: number): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${pid}/stat`);
  // The second field, the name, may hold blanks; what follows it starts with the third.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ").map(Number);
  const TICKS_A_SECOND = 100;
  return (fields[11] + fields[12] + fields[13] + fields[14]) / TICKS_A_SECOND;
}

/** A number for people: `10,000`. */
export function counted(count: number): string {
  return count.toLocaleString("en");
}

/** Waits. */
export function pause(seconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, seconds * 1000));
}
