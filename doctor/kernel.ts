/**
 * Whether the kernel has what the leases call for, and forwards packets.
 *
 * @module
 */
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import { forwardingRemedy } from "../agent/packet_forwarding.ts";
import type { DataPlane } from "../dataplane/mod.ts";
import type { EntryError, KernelState } from "../dataplane/state.ts";

/** Entries that are named. */
const MOST = 3;

/** Whether peers send to this node, so that what is missing loses packets. */
export interface Expectation {
  isRunning: boolean;
  hasLease: boolean;
}

/** Compares devices, addresses, routes, neighbours and forwarding entries. */
export async function* examineKernel(
  kernel: KernelState,
  { isRunning, hasLease }: Expectation,
  dataplane: DataPlane,
): AsyncGenerator<Finding> {
  const differences = await dataplane.inspect(kernel);
  const isLost = isRunning || hasLease;
  const verdict = isLost ? fail : warn;
  const fix = isRunning ? "see the log of flanneld for the reason" : "start flanneld";
  const isOn = ({ entry }: EntryError, name: string) =>
    entry.startsWith(`link ${name} `) || entry.endsWith(` dev ${name}`);
  const links = kernel.tunnel ? [...kernel.links, { ...kernel.tunnel, kind: "tun" }] : kernel.links;
  const shown = new Set<EntryError>();
  for (const link of links) {
    const check = `device ${link.name}`;
    const found = differences.filter((one) =>
      isOn(one, link.name) && /^(link|address) /.test(one.entry)
    );
    for (const one of found) {
      shown.add(one);
      yield verdict(check, entryText(one), fix);
    }
    if (found.length === 0) yield pass(check, linkText(link));
  }
  const rest = differences.filter((one) => !shown.has(one));
  const count = kernel.routes.length + kernel.neighbours.length + kernel.fdb.length;
  if (rest.length === 0) {
    const isThere = differences.length === 0;
    if (isThere && count > 0) yield pass("routes", `${countsText(kernel)} in place`);
    return;
  }
  for (const one of rest.slice(0, MOST)) {
    yield verdict("routes", `${one.entry}: ${one.message}`, fix);
  }
  if (rest.length > MOST) {
    yield verdict("routes", `${rest.length - MOST} more entries are missing or differ`, fix);
  }
}

function entryText({ entry, message }: EntryError): string {
  return entry.startsWith("link ") ? message : `${entry}: ${message}`;
}

function linkText(link: { kind: string; mtu: number; vni?: number; port?: number }): string {
  const parts = [
    link.kind,
    link.vni !== undefined && `VNI ${link.vni}`,
    link.port !== undefined && `port ${link.port}`,
    `MTU ${link.mtu}`,
    "up",
  ];
  return parts.filter(Boolean).join(", ");
}

function countsText({ routes, neighbours, fdb }: KernelState): string {
  const counts: [number, one: string, several: string][] = [
    [routes.length, "route", "routes"],
    [neighbours.length, "neighbour", "neighbours"],
    [fdb.length, "forwarding entry", "forwarding entries"],
  ];
  return counts.filter(([count]) => count > 0)
    .map(([count, one, several]) => `${count} ${count === 1 ? one : several}`).join(", ");
}

/** Whether packets are forwarded between these devices. */
export async function* examineForwarding(
  query: { devs: string[]; ipv4: boolean; ipv6: boolean },
  dataplane: DataPlane,
): AsyncGenerator<Finding> {
  const check = "packet forwarding";
  const { off } = await Promise.resolve(dataplane.packetForwarding({ ...query, enable: false }));
  if (off.length === 0) yield pass(check, `on for ${query.devs.join(", ")}`);
  else {
    yield fail(
      check,
      `off (${off.join(", ")}): packets between containers and other hosts are lost`,
      forwardingRemedy(off),
    );
  }
}
