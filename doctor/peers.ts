/**
 * Which peers answer, and whether packets of full size reach them whole.
 *
 * Each peer is asked by ICMP at its public address, with DF set, and at its address in the overlay,
 * where that is led into a device of the backend's or to a gateway on the link. The first tells what
 * the path carries, the second whether the overlay works.
 *
 * @module
 */
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import type { Backend, PublicInterface, Skipped } from "../backends/types.ts";
import type { DataPlane, Probed, ProbeTarget } from "../dataplane/mod.ts";
import type { KernelState } from "../dataplane/state.ts";
import { named, sample } from "../hostcheck/facts.ts";
import { Cidr } from "../base/cidr.ts";
import type { Lease } from "../subnet/types.ts";

/** Lines about single peers. */
const MOST = 5;

/** What is asked about. */
export interface PeersPatient {
  backend: Backend;
  iface: PublicInterface;
  lease: Lease | undefined;
  /** Valid leases of other nodes. */
  peers: readonly Lease[];
  skipped: readonly Skipped[];
  kernel: KernelState;
  /** UDP port of the tunnel; undefined where there is none. */
  port: number | undefined;
}

/** How one family's half of a peer is asked. */
interface Way {
  name: string;
  outer: ProbeTarget;
  /** Absent where there is no way to try the overlay. */
  inner?: ProbeTarget;
  /** The inner address is the agent's own, which answers whenever the overlay works. */
  mustAnswer: boolean;
}

/** What came of it. */
interface Outcome extends Way {
  outside: Probed;
  inside: Probed | undefined;
}

/** Asks peers, some of many. */
export async function* examinePeers(
  patient: PeersPatient,
  dataplane: DataPlane,
): AsyncGenerator<Finding> {
  const { backend, peers, skipped } = patient;
  yield* skippedFindings(skipped);
  if (backend.type === "alloc") return;
  const left = new Set(skipped.map(({ key }) => key));
  const carried = peers.filter(({ key }) => !left.has(key));
  if (carried.length === 0) return yield pass("peers", "there are none");
  const asked = sample(carried);
  const ways = asked.flatMap((peer) => waysTo(peer, patient, dataplane));
  const targets = ways.flatMap(({ outer, inner }) => inner ? [outer, inner] : [outer]);
  const answers = (await dataplane.probe(targets))[Symbol.iterator]();
  const next = () => answers.next().value!;
  const outcomes = ways.map((way): Outcome => ({
    ...way,
    outside: next(),
    inside: way.inner && next(),
  }));
  const of = asked.length < carried.length ? ` (of ${carried.length}, ${asked.length} asked)` : "";
  yield* answerFindings(outcomes, patient, of);
  yield* mtuFindings(outcomes, patient);
}

function* skippedFindings(skipped: readonly Skipped[]): Generator<Finding> {
  for (const { key, reason } of skipped.slice(0, MOST)) {
    yield warn("peers", `skipped ${key}: ${reason}`);
  }
  const more = skipped.length - MOST;
  if (more > 0) yield warn("peers", `skipped ${more} more`, "flanneld peers");
}

function waysTo(peer: Lease, patient: PeersPatient, dataplane: DataPlane): Way[] {
  const { attrs: { publicIP, publicIPv6 } } = peer;
  const { iface } = patient;
  const ways: Way[] = [];
  for (
    const { ip, from, subnet, own } of [
      { ip: publicIP, from: iface.ip, subnet: peer.subnet, own: patient.lease?.subnet },
      { ip: publicIPv6, from: iface.ipv6, subnet: peer.ipv6Subnet, own: patient.lease?.ipv6Subnet },
    ]
  ) {
    if (ip === null || from === null) continue;
    const size = patient.backend.outerMtu ?? patient.backend.mtu;
    ways.push({
      name: `${subnet ?? peer.key} (${ip})`,
      outer: { ip, from, size },
      ...innerWay(subnet, own ?? null, patient, dataplane),
    });
  }
  return ways;
}

/** How to reach a peer through the overlay. */
function innerWay(
  subnet: Cidr | null,
  own: Cidr | null,
  { backend, kernel }: PeersPatient,
  dataplane: DataPlane,
): Pick<Way, "inner" | "mustAnswer"> {
  if (subnet === null) return { mustAnswer: false };
  const isDevice = backend.devices.length > 0;
  const ip = isDevice ? subnet.address : subnet.nth(1n);
  const [route] = dataplane.routesTo([ip]);
  const isTunnelled = isDevice && route !== undefined && backend.devices.includes(route.dev);
  if (isTunnelled) {
    const isUp = own !== null && kernel.addresses.some(({ cidr }) => cidr.startsWith(own.address));
    return {
      inner: { ip, size: backend.mtu, ...(isUp ? { from: own.address } : {}) },
      mustAnswer: true,
    };
  }
  // Plain routes: the address of the containers' bridge, which may not be there.
  const wanted = kernel.routes.find(({ dst }) => Cidr.parse(dst).equals(subnet));
  const isPlain = wanted?.dev !== undefined && !backend.devices.includes(wanted.dev);
  if (!isPlain && backend.type !== "aws-vpc") return { mustAnswer: false };
  return { inner: { ip: subnet.nth(1n), size: backend.mtu }, mustAnswer: false };
}

function* answerFindings(
  outcomes: readonly Outcome[],
  patient: PeersPatient,
  of: string,
): Generator<Finding> {
  const lost: Finding[] = [];
  const micros: number[] = [];
  for (const outcome of outcomes) {
    const problem = silence(outcome, patient);
    if (problem === undefined) micros.push((outcome.inside?.micros ?? outcome.outside.micros)!);
    else lost.push(problem);
  }
  if (micros.length > 0) {
    const text = (value: number) => (value / 1000).toFixed(2);
    const range = `${text(Math.min(...micros))} to ${text(Math.max(...micros))} ms`;
    yield pass("peers", `${micros.length} of ${outcomes.length} answer${of}, in ${range}`);
  }
  yield* lost.slice(0, MOST);
  if (lost.length > MOST) yield fail("peers", `${lost.length - MOST} more do not answer`);
}

/** Why a peer counts as lost; undefined where it answers. */
function silence(
  { name, outside, inside, mustAnswer }: Outcome,
  { port }: PeersPatient,
): Finding | undefined {
  if (inside?.answered) return undefined;
  if (!outside.answered) {
    const error = outside.error === undefined ? "" : ` (${outside.error})`;
    return fail(
      "peers",
      `${name} does not answer${error}`,
      "check that this node is up, that the path to it works and that no firewall drops ICMP echo; " +
        "if it is gone for good, its lease expires within 24 h",
    );
  }
  if (inside === undefined || !mustAnswer) return undefined;
  const what = port === undefined ? "the overlay's packets" : `UDP port ${port}`;
  return fail(
    "peers",
    `${name} answers at its public address but not through the overlay`,
    `check that flanneld runs there, and that no firewall drops ${what} in either direction`,
  );
}

function* mtuFindings(outcomes: readonly Outcome[], patient: PeersPatient): Generator<Finding> {
  const { backend, iface } = patient;
  const check = "path MTU";
  const answering = outcomes.filter(({ outside, inside }) => outside.answered || inside?.answered);
  if (answering.length === 0) return;
  /** Names of peers by what the path to them carries, of what it should. */
  const narrow = new Map<string, { names: string[]; mtu: number; text: string }>();
  let unknown = 0;
  for (const { name, outer, inner, outside, inside } of answering) {
    const [probed, target, kind] = outside.answered && outside.mtu < outer.size
      ? [outside, outer, "outer"]
      : inside?.answered && inside.mtu < inner!.size
      ? [inside, inner!, "inner"]
      : [undefined, outer, "outer"];
    if (probed === undefined) {
      if (!outside.answered) unknown++;
      continue;
    }
    const whole = probed.mtu === 0 ? "none" : `packets of up to ${probed.mtu} bytes`;
    const text = kind === "outer"
      ? `carries ${whole} unfragmented, and flanneld sends ${target.size}`
      : `carries ${whole} through the overlay, whose MTU is ${target.size}`;
    const group = narrow.get(text) ?? { names: [], mtu: probed.mtu, text };
    group.names.push(name);
    narrow.set(text, group);
  }
  for (const { names, mtu, text } of narrow.values()) {
    const setting = backend.type === "vxlan" || backend.type === "aws-vpc"
      ? `set "MTU": ${mtu} in Backend of the network config and restart the agents`
      : `run "ip link set dev ${iface.name} mtu ${mtu}" on all nodes`;
    yield fail(check, `the path to ${named(names)} ${text}`, `raise the path's MTU, or ${setting}`);
  }
  if (narrow.size > 0) return;
  const { size } = answering[0].outer;
  yield unknown === answering.length
    ? pass(check, `packets of ${backend.mtu} bytes get through the overlay`)
    : pass(check, `packets of ${size} bytes reach the peers unfragmented`);
}
