/**
 * A node with the data plane open on it, for the tests of this folder: each case in a namespace of its
 * own, checked with `ip` and `bridge`.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { KernelState } from "../../dataplane/state.ts";
import { RemoteDataPlane } from "../../testbed/dataplane.ts";
import { NetNs, veth, waitFor } from "../../testbed/netns.ts";

export const MAC = "02:00:00:00:00:01";
/** Healing has to be done within this many milliseconds. */
export const HEALED = { limitMs: 2_000 };

/** A node with one public interface, and the data plane open on it. */
export interface Node extends AsyncDisposable {
  ns: NetNs;
  dataplane: RemoteDataPlane;
  ip(...args: string[]): Promise<string>;
  /** What `ip -j` or `bridge -j` gives; the program comes first. */
  json(...args: string[]): Promise<Record<string, unknown>[]>;
}

export async function node(): Promise<Node> {
  const stack = new AsyncDisposableStack();
  try {
    const ns = stack.use(await NetNs.create("dp"));
    const far = stack.use(await NetNs.create("dpfar"));
    const addresses = ["192.0.2.1/24", "2001:db8::1/64"];
    await veth({ ns, dev: "eth0", addresses }, { ns: far, dev: "eth0" });
    const dataplane = stack.use(await RemoteDataPlane.open(ns));
    return {
      ns,
      dataplane,
      ip: (...args) => ns.run("ip", ...args),
      json: async (...args) => JSON.parse(await ns.run(args[0], "-j", ...args.slice(1)) || "[]"),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

export function empty(): KernelState {
  return { links: [], addresses: [], routes: [], neighbours: [], fdb: [] };
}

/** A vxlan backend's wish with peers 1 to `count`. */
export function vxlan(count: number, first = 1): KernelState {
  const dev = "flannel.1";
  const state = empty();
  state.links.push({
    ...{ kind: "vxlan", name: dev, vni: 1, mac: MAC, mtu: 1450, lower: "eth0" },
    ...{ local: "192.0.2.1", port: 8472, learning: false, gbp: false },
  });
  state.addresses.push({ dev, cidr: "10.0.0.0/32" });
  for (let peer = first; peer < first + count; peer++) {
    const [high, low] = [peer >> 8, peer & 255];
    const hex = [high, low].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    const via = `10.${high}.${low}.0`;
    const mac = `02:01:00:00:${hex}`;
    state.routes.push({ dst: `${via}/24`, via, dev, onlink: true });
    state.neighbours.push({ dev, ip: via, mac });
    state.fdb.push({ dev, mac, dst: `172.16.${high}.${low}` });
  }
  return state;
}

/** A host-gw backend's wish with peers 1 to `count` as its neighbours on eth0. */
export function hostgw(count: number): KernelState {
  const state = empty();
  for (let peer = 1; peer <= count; peer++) {
    state.routes.push({ dst: `10.1.${peer}.0/24`, via: `192.0.2.${100 + peer}`, dev: "eth0" });
  }
  return state;
}

/** Applies and expects no error. */
export async function apply({ dataplane }: Node, state: KernelState) {
  const report = await dataplane.apply(state);
  assert.deepEqual(report.errors, []);
  return report;
}

/** Compares as sets, and says little of what may be thousands. */
function assertSame(actual: string[], wanted: string[]): void {
  const [a, w] = [new Set(actual), new Set(wanted)];
  const differences = [...w.difference(a), ...a.difference(w)];
  assert.equal(differences.length, 0, `${differences.length} differ: ${differences.slice(0, 5)}`);
  assert.equal(actual.length, wanted.length);
}

/** Fails unless the kernel has all of `vxlan(count)` and nothing more on the device. */
export async function assertVxlan(n: Node, count: number): Promise<void> {
  const routes = await n.json("ip", "route", "show", "dev", "flannel.1");
  const neighbours = await n.json("ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent");
  const fdb = await n.json("bridge", "fdb", "show", "dev", "flannel.1");
  const wanted = vxlan(count);
  assertSame(
    routes.map(({ dst, gateway, flags }) => `${dst} via ${gateway} ${flags}`),
    wanted.routes.map(({ dst, via }) => `${dst} via ${via} onlink`),
  );
  assertSame(
    neighbours.map(({ dst, lladdr }) => `${dst} ${lladdr}`),
    wanted.neighbours.map(({ ip, mac }) => `${ip} ${mac}`),
  );
  assertSame(
    fdb.map(({ mac, dst, state }) => `${mac} ${dst} ${state}`),
    wanted.fdb.map(({ mac, dst }) => `${mac} ${dst} permanent`),
  );
  const [link] = await n.json("ip", "-d", "address", "show", "dev", "flannel.1");
  assert.equal(link.address, MAC);
  assert.equal(link.mtu, 1450);
  assert.equal(link.ifalias, "flanneld");
  assert.ok((link.flags as string[]).includes("UP"));
  // An adopted device may have a link-local address of the kernel's.
  const addresses = link.addr_info as Record<string, unknown>[];
  const [address, ...more] = addresses.filter(({ scope }) => scope !== "link");
  assert.deepEqual(more, []);
  assert.equal(address.local, "10.0.0.0");
  assert.equal(address.prefixlen, 32);
}

export async function gives(n: Node, pattern: RegExp, ...args: string[]): Promise<void> {
  const what = `ip ${args.join(" ")} to give ${pattern}`;
  await waitFor(async () => pattern.test(await n.ip(...args)), { ...HEALED, what });
}
