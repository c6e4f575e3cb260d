/**
 * The main job on one machine, step by step: hosts, agents, containers, proof that packets cross,
 * and the live view.
 *
 * @module
 */
import { Cluster, type Container, networkConfig, waitReach } from "../../testbed/cluster.ts";
import { removeLeftovers } from "../../testbed/leftovers.ts";
import { bitRate, roundTrip, table } from "./format.ts";
import type { DevOptions } from "./options.ts";
import type { Output } from "../output.ts";
import { copy, type Path, ping, ring } from "./traffic.ts";
import { hostName, leaseOf, leasesByHolder, Sampler, viewLine, viewLines } from "./view.ts";

/** Bytes of each copy. */
const COPY_BYTES = 32 << 20;
/** Milliseconds between two views on a terminal, and in a log. */
const REDRAW = 1_000;
const LOG_PERIOD = 5_000;

/**
 * Runs the lab until `signal` aborts, or with `once` until the copies are done. Everything it made is
 * removed when it settles.
 *
 * @throws Error of the step that failed; the signal's reason when it aborts before the live view
 */
export async function runLab(
  options: DevOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const { backend, family, nodes } = options;
  let cluster: Cluster | undefined;
  try {
    await tidyUp(output);
    output.heading(`${nodes} hosts on this machine, backend ${backend}, ${family}`);
    const network = networkConfig(family, { Type: backend });
    // Not cut short by the signal: only what is made can be removed.
    cluster = await Cluster.create({ label: `dev${Deno.pid}`, nodes, families: family, network });
    output.done(`etcd serves at ${cluster.etcd.endpoint}`);
    output.done(`network config ${JSON.stringify(network)}`);
    const paths = await bringUp(cluster, output, signal);
    await prove(paths, output, signal);
    if (options.once) return;
    tellCommands(cluster, paths[0], output, backend);
    await liveView(cluster, paths, output, signal);
  } catch (error) {
    if (!signal.aborted) output.failed(messageOf(error));
    throw error;
  } finally {
    if (signal.aborted) output.line("", "Cleaning up ...");
    await cluster?.[Symbol.asyncDispose]();
    const count = cluster?.namespaces.length ?? 0;
    if (count > 0) output.line(`Removed ${count} network namespaces and all that ran in them.`);
  }
}

/** Starts agents and containers, and shows the leases. */
async function bringUp(cluster: Cluster, output: Output, signal: AbortSignal): Promise<Path[]> {
  const started = performance.now();
  await unlessAborted(cluster.startAgents(), signal);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  output.done(`${cluster.nodes.length} agents are ready after ${seconds} s`);
  const containers = await unlessAborted(cluster.attachAll("c1"), signal);
  output.done("a container is on each host's bridge");
  output.line("", ...await unlessAborted(leaseTable(cluster, containers), signal), "");
  return ring(containers);
}

/** A row for each address family of each host. */
async function leaseTable(cluster: Cluster, containers: Container[]): Promise<string[]> {
  const leases = await leasesByHolder(cluster);
  const rows = containers.flatMap(({ node, mtu, ipv4, ipv6 }) => {
    const key = leases.get(node.ipv4 ?? node.ipv6 ?? "") ?? "none in etcd";
    return [[node.ipv4, ipv4], [node.ipv6, ipv6]].flatMap(([publicIP, container]) =>
      publicIP && container
        ? [[hostName(node), publicIP, leaseOf(key, publicIP), container, String(mtu)]]
        : []
    );
  });
  return table([["HOST", "PUBLIC IP", "LEASE", "CONTAINER", "MTU"], ...rows]);
}

/** Pings and copies from each container to the next. */
async function prove(paths: Path[], output: Output, signal: AbortSignal): Promise<void> {
  for (const path of paths) {
    await unlessAborted(waitReach(path.from.ns, path.ip), signal);
    output.done(`ping ${describe(path)}: ${roundTrip(await ping(path))}`);
  }
  output.line("", "TCP copies, their SHA-256 compared:");
  for (const path of paths) {
    const rate = await unlessAborted(
      copy(path, COPY_BYTES).catch((error) => {
        throw new Error(`copy ${describe(path)}: ${messageOf(error)}`);
      }),
      signal,
    );
    output.done(
      `copy ${describe(path)}: ${COPY_BYTES >> 20} MiB at ${bitRate(rate)}, intact`,
    );
  }
}

function tellCommands(cluster: Cluster, path: Path, output: Output, backend: string): void {
  const [node] = cluster.nodes;
  const host = `ip netns exec ${node.ns.name}`;
  output.heading("To try in another terminal, as root");
  output.line(
    `ip netns exec ${path.from.ns.name} ping ${path.ip}`,
    `${host} ip ${path.ip.includes(":") ? "-6 " : ""}route`,
    ...(backend === "vxlan" ? [`${host} bridge fdb show dev flannel.1`] : []),
    `cat ${node.subnetFile}`,
    `ip netns exec ${cluster.etcdHost.name} etcdctl --endpoints ${cluster.etcd.endpoint} ` +
      "get --prefix /coreos.com/network",
  );
  output.heading("Live view; Ctrl-C ends it and removes everything");
}

async function liveView(
  cluster: Cluster,
  paths: Path[],
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const sampler = new Sampler(cluster, paths);
  const period = output.terminal ? REDRAW : LOG_PERIOD;
  try {
    while (true) {
      const started = performance.now();
      const samples = await unlessAborted(sampler.sample(), signal);
      if (output.terminal) output.draw(viewLines(samples));
      else output.line(`${new Date().toTimeString().slice(0, 8)} ${viewLine(samples)}`);
      const left = Math.max(0, started + period - performance.now());
      await unlessAborted(new Promise((resolve) => setTimeout(resolve, left)), signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function tidyUp(output: Output): Promise<void> {
  const count = await removeLeftovers("dev");
  if (count > 0) output.line(`Removed ${count} network namespaces of a run that was killed.`);
}

/**
 * What `promise` gives.
 *
 * @throws the signal's reason when it aborts before
 */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    // The live view comes by here every second for as long as it stays up.
    signal.removeEventListener("abort", abort);
  }
}

function describe({ from, to, ip }: Path): string {
  return `${hostName(from.node)} to ${ip} on ${hostName(to.node)}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
