/**
 * What the end-to-end tests share: packets that must cross, what the kernel and etcd hold, and what
 * they ought to hold.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { PeersReport } from "../../agent/peers_report.ts";
import { type Cluster, type Container, type Node, PREFIX } from "../../testbed/cluster.ts";
import { exec, type NetNs, type Output, type Process, waitFor } from "../../testbed/netns.ts";
import { agentEnvironment, flanneldCommand } from "../../testbed/node.ts";

/** Milliseconds within which whatever someone else removed must be back. */
export const HEALING_LIMIT = 2_000;

/** A lease as it is in etcd. */
export interface StoredLease {
  /** Last part of the key. */
  key: string;
  /** The value, byte for byte. */
  raw: string;
  subnet?: string;
  ipv6Subnet?: string;
  value: {
    PublicIP: string | null;
    PublicIPv6: string | null;
    BackendType?: string;
    BackendData?: { VNI: number; VtepMAC: string };
    BackendV6Data?: { VNI: number; VtepMAC: string };
  };
}

/** Runs `check` until it does not throw. */
export async function eventually(
  check: () => unknown,
  { limitMs = 10_000, what = "what the test checks" } = {},
): Promise<void> {
  await waitFor(async () => {
    await check();
    return true;
  }, { limitMs, what, intervalMs: 50 });
}

/** All leases by key; those whose key or value is no lease are left out. */
export async function storedLeases(cluster: Pick<Cluster, "leases">): Promise<StoredLease[]> {
  const leases: StoredLease[] = [];
  for (const [key, raw] of await cluster.leases()) {
    try {
      leases.push({ key, raw, ...subnetsOf(key), value: JSON.parse(raw) });
    } catch {
      // Broken on purpose.
    }
  }
  return leases.sort((a, b) => a.key < b.key ? -1 : 1);
}

/** `10.1.34.0-24&fd00:1:0:5::-64` as subnets. */
function subnetsOf(key: string): { subnet?: string; ipv6Subnet?: string } {
  const [ipv4, ipv6] = key.split("&");
  const slash = (text: string) => text.replace(/-(\d+)$/, "/$1").replaceAll("-", ":");
  return {
    ...(ipv4 === "0.0.0.0-0" ? {} : { subnet: slash(ipv4) }),
    ...(ipv6 ? { ipv6Subnet: slash(ipv6) } : {}),
  };
}

/** The one lease of this node, by its public addresses. */
export function leaseOf(leases: StoredLease[], node: Node): StoredLease {
  const found = leases.filter(({ value }) =>
    node.ipv4 ? value.PublicIP === node.ipv4 : value.PublicIPv6 === node.ipv6
  );
  assert.equal(found.length, 1, `${node.ns.name} has one lease: ${JSON.stringify(leases)}`);
  return found[0];
}

/** The lease of a node, read now. */
export async function nodeLease(
  cluster: Pick<Cluster, "leases">,
  node: Node,
): Promise<StoredLease> {
  return leaseOf(await storedLeases(cluster), node);
}

/** The subnet that a node's lease has in the family of `ip`. */
export function baseAddress(subnet: string): string {
  return subnet.split("/")[0];
}

/** Writes a lease under `key`, as another agent would. */
export async function putLease(cluster: Cluster, key: string, value: unknown): Promise<void> {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  await cluster.etcd.ctl("put", "--", `${PREFIX}/subnets/${key}`, text);
}

/** Removes a lease. */
export async function deleteLease(cluster: Cluster, key: string): Promise<void> {
  assert.equal((await cluster.etcd.ctl("del", `${PREFIX}/subnets/${key}`)).trim(), "1");
}

// What the kernel holds.

/** Runs a command that prints JSON. */
export async function json<T>(ns: NetNs, ...[command, ...args]: string[]): Promise<T> {
  return JSON.parse(await ns.run(command, ...args) || "[]") as T;
}

/** The parts of `ip -j -d link` that the tests look at. */
export interface LinkView {
  ifname: string;
  ifindex: number;
  address: string;
  mtu: number;
  flags: string[];
  link?: string;
  linkinfo?: { info_kind: string; info_data: Record<string, unknown> };
}

/** One device. */
export async function link(ns: NetNs, dev: string): Promise<LinkView> {
  return (await json<LinkView[]>(ns, "ip", "-j", "-d", "link", "show", "dev", dev))[0];
}

interface RouteView {
  dst: string;
  gateway?: string;
  dev: string;
  protocol?: string;
  flags?: string[];
}

/** Routes on a device but the kernel's own, as `DST via GATEWAY [onlink]`, sorted. */
export async function routes(ns: NetNs, dev: string, family: "-4" | "-6" = "-4") {
  const found = await json<RouteView[]>(ns, "ip", family, "-j", "route", "show", "dev", dev);
  return found
    .filter(({ protocol, dst }) => protocol !== "kernel" && dst !== "default")
    .map(({ dst, gateway, flags = [] }) =>
      [dst, gateway && `via ${gateway}`, flags.includes("onlink") && "onlink"].filter(Boolean)
        .join(" ")
    ).sort();
}

/** Permanent neighbours of a device as `IP MAC`, sorted. */
export async function neighbours(ns: NetNs, dev: string, family: "-4" | "-6" = "-4") {
  const found = await json<{ dst: string; lladdr: string; state: string[] }[]>(
    ns,
    ...["ip", family, "-j", "neigh", "show", "nud", "permanent", "dev", dev],
  );
  return found.map(({ dst, lladdr }) => `${dst} ${lladdr}`).sort();
}

/** The forwarding database of a device as `MAC dst IP FLAGS STATE`, sorted. */
export async function fdb(ns: NetNs, dev: string) {
  const found = await json<{ mac: string; dst: string; flags: string[]; state: string }[]>(
    ns,
    ...["bridge", "-j", "fdb", "show", "dev", dev],
  );
  return found.map(({ mac, dst, flags, state }) => `${mac} dst ${dst} ${flags} ${state}`).sort();
}

/** Global addresses of a device with their length, sorted. */
export async function addresses(ns: NetNs, dev: string) {
  const [{ addr_info }] = await json<
    { addr_info: { local: string; prefixlen: number; scope: string }[] }[]
  >(ns, "ip", "-j", "address", "show", "dev", dev);
  return addr_info.filter(({ scope }) => scope === "global").map(({ local, prefixlen }) =>
    `${local}/${prefixlen}`
  ).sort();
}

/**
 * Compares a node's vxlan devices, routes, neighbours and forwarding database with what the leases
 * call for; throws at the first difference.
 *
 * @param peers leases that must be reachable, all others' where absent
 */
export async function assertVxlan(
  node: Node,
  leases: StoredLease[],
  { vni = 1, port = 8472, mtu = 1500, peers }: {
    vni?: number;
    port?: number;
    mtu?: number;
    peers?: StoredLease[];
  } = {},
): Promise<void> {
  const { ns } = node;
  const own = leaseOf(leases, node);
  const others = peers ?? leases.filter((lease) => lease !== own);
  const halves = [
    {
      dev: `flannel.${vni}`,
      family: "-4" as const,
      overhead: 50,
      local: "local",
      ip: node.ipv4,
      of: ({ subnet, value }: StoredLease) => ({
        subnet,
        ip: value.PublicIP,
        data: value.BackendData,
      }),
    },
    {
      dev: `flannel-v6.${vni}`,
      family: "-6" as const,
      overhead: 70,
      local: "local6",
      ip: node.ipv6,
      of: ({ ipv6Subnet, value }: StoredLease) => ({
        subnet: ipv6Subnet,
        ip: value.PublicIPv6,
        data: value.BackendV6Data,
      }),
    },
  ];
  for (const { dev, family, overhead, local, ip, of } of halves) {
    const { subnet, data } = of(own);
    if (!subnet) {
      assert.notEqual((await ns.exec("ip", "link", "show", dev)).code, 0, `no ${dev}`);
      continue;
    }
    const device = await link(ns, dev);
    const info = device.linkinfo!.info_data;
    assert.deepEqual(
      {
        kind: device.linkinfo!.info_kind,
        mac: device.address,
        mtu: device.mtu,
        up: device.flags.includes("UP"),
        id: info.id,
        local: info[local],
        lower: info.link,
        port: info.port,
        learning: info.learning,
      },
      {
        kind: "vxlan",
        mac: data!.VtepMAC,
        mtu: mtu - overhead,
        up: true,
        id: vni,
        local: ip,
        lower: "eth0",
        port,
        learning: false,
      },
    );
    const length = family === "-4" ? 32 : 128;
    assert.deepEqual(await addresses(ns, dev), [`${baseAddress(subnet)}/${length}`]);
    const wanted = others.map(of).filter((peer) => peer.subnet);
    assert.deepEqual(
      await routes(ns, dev, family),
      wanted.map((peer) => `${peer.subnet} via ${baseAddress(peer.subnet!)} onlink`).sort(),
    );
    assert.deepEqual(
      await neighbours(ns, dev, family),
      wanted.map((peer) => `${baseAddress(peer.subnet!)} ${peer.data!.VtepMAC}`).sort(),
    );
    assert.deepEqual(
      await fdb(ns, dev),
      wanted.map((peer) => `${peer.data!.VtepMAC} dst ${peer.ip} self permanent`).sort(),
    );
  }
}

/** The same for host-gw: routes on the public interface, and no device. */
export async function assertHostGw(
  node: Node,
  leases: StoredLease[],
  peers?: StoredLease[],
): Promise<void> {
  const own = leaseOf(leases, node);
  const others = peers ?? leases.filter((lease) => lease !== own);
  const of = (net: "subnet" | "ipv6Subnet", ip: "PublicIP" | "PublicIPv6") =>
    others.filter((peer) => peer[net]).map((peer) => `${peer[net]} via ${peer.value[ip]}`).sort();
  assert.deepEqual(await routes(node.ns, "eth0", "-4"), of("subnet", "PublicIP"));
  assert.deepEqual(await routes(node.ns, "eth0", "-6"), of("ipv6Subnet", "PublicIPv6"));
  const { stdout } = await node.ns.exec("ip", "-o", "link");
  assert.doesNotMatch(stdout, /: flannel/);
}

/** Waits until each node's kernel holds what the leases call for. */
export async function waitForwarding(cluster: Cluster, backend: "vxlan" | "host-gw") {
  await eventually(async () => {
    const leases = await storedLeases(cluster);
    for (const node of cluster.nodes) {
      if (backend === "vxlan") await assertVxlan(node, leases);
      else await assertHostGw(node, leases);
    }
  }, { what: `${backend} between all nodes` });
}

/** The text that the subnet file must be. */
export function subnetFileText(
  { subnet, ipv6Subnet }: StoredLease,
  { mtu, ipMasq = false }: { mtu: number; ipMasq?: boolean },
): string {
  const gateway4 = subnet?.replace(/0\/(\d+)$/, "1/$1");
  const gateway6 = ipv6Subnet?.replace("::/", "::1/");
  return [
    ...(gateway4 ? ["FLANNEL_NETWORK=10.1.0.0/16", `FLANNEL_SUBNET=${gateway4}`] : []),
    ...(gateway6 ? ["FLANNEL_IPV6_NETWORK=fd00:1::/48", `FLANNEL_IPV6_SUBNET=${gateway6}`] : []),
    `FLANNEL_MTU=${mtu}`,
    `FLANNEL_IPMASQ=${ipMasq}`,
  ].map((line) => `${line}\n`).join("");
}

// Packets that must cross.

/** Addresses of a container or node. */
export function ips(of: { ipv4?: string; ipv6?: string }): string[] {
  return [of.ipv4, of.ipv6].filter((ip): ip is string => ip !== undefined);
}

/** Three pings, none lost. */
export async function ping(ns: NetNs, ip: string): Promise<void> {
  await ns.run("ping", "-c3", "-i0.05", "-W2", "-q", ip);
}

const TCP_PORT = 7007;
const TCP_SCRIPT = new URL("tcp_echo.ts", import.meta.url).pathname;

/** Starts the far end of {@linkcode tcp} in each namespace. */
export async function startEcho(...namespaces: NetNs[]): Promise<void> {
  await Promise.all(namespaces.map(async (ns) => {
    const server = ns.spawn(Deno.execPath(), ["run", "-A", TCP_SCRIPT, "server", `${TCP_PORT}`]);
    await server.waitForLine(/^listening$/, 20_000);
  }));
}

/** Sends `bytes` random bytes over TCP to each address and back, and compares them. */
export async function tcp(ns: NetNs, targets: string[], bytes = 2_000_000): Promise<void> {
  const args = ["run", "-A", TCP_SCRIPT, "client", `${TCP_PORT}`, `${bytes}`, ...targets];
  assert.equal(await ns.run(Deno.execPath(), ...args), `ok ${targets.length}\n`);
}

/**
 * Pings and sends TCP both ways between two hosts: from container to container, from container to
 * the other host's own address, and from host to container.
 */
export async function assertReach(a: Container, b: Container): Promise<void> {
  const ends: { ns: NetNs; targets: string[] }[] = [];
  for (const [from, to] of [[a, b], [b, a]]) {
    ends.push({ ns: from.ns, targets: [...ips(to), ...ips(to.node)] });
    ends.push({ ns: from.node.ns, targets: ips(to) });
  }
  await Promise.all(ends.flatMap(({ ns, targets }) => targets.map((ip) => ping(ns, ip))));
  await startEcho(a.ns, b.ns, a.node.ns, b.node.ns);
  for (const { ns, targets } of ends) await tcp(ns, targets);
}

/** Pings a hundred times a second and tells which were never answered. */
export class Probe implements AsyncDisposable {
  readonly #process: Process;

  constructor(ns: NetNs, readonly ip: string) {
    this.#process = ns.spawn("ping", ["-n", "-i0.01", ip]);
  }

  /** Waits for `count` more answers. */
  async answers(count: number, limitMs = 20_000): Promise<void> {
    const from = this.#sequence().length;
    await waitFor(() => this.#sequence().length >= from + count, {
      limitMs,
      what: `${count} answers from ${this.ip}`,
    });
  }

  /** Ends the probe and gives the sequence numbers of pings that were lost. */
  async end(): Promise<number[]> {
    this.#process.kill("SIGINT");
    await this.#process.status;
    const got = this.#sequence();
    const seen = new Set(got);
    const lost: number[] = [];
    // The sequence wraps at 65,536, far beyond a test's length. One in flight at the end is none.
    for (let number = 1; number < Math.max(...got); number++) {
      if (!seen.has(number)) lost.push(number);
    }
    return lost;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }

  #sequence(): number[] {
    return this.#process.lines.flatMap((line) => {
      const match = /bytes from .*(?:icmp_)?seq=(\d+)/.exec(line);
      return match ? [Number(match[1])] : [];
    });
  }
}

/** Lines of a log that match. */
export function matching(agent: Process, pattern: RegExp): string[] {
  return agent.lines.filter((line) => pattern.test(line));
}

/** Ends an agent by SIGTERM and gives its exit status. */
export async function terminate(agent: Process): Promise<Deno.CommandStatus> {
  agent.kill("SIGTERM");
  await waitFor(() => agent.ended, { limitMs: 10_000, what: "the agent's end after SIGTERM" });
  return await agent.status;
}

/** Ends an agent by SIGKILL. */
export async function killHard(agent: Process): Promise<void> {
  agent.kill("SIGKILL");
  await agent.status;
}

/** Runs the agent's program to its end on a node, with arguments of one's own. */
export async function runFlanneld(
  node: Pick<Node, "ns">,
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [command, ...first] = flanneldCommand();
  return await node.ns.exec(command, ...first, ...args);
}

/** As {@linkcode runFlanneld}, in an agent's environment with these variables. */
export async function runFlanneldWith(
  env: Record<string, string>,
  { ns }: Pick<Node, "ns">,
  ...args: string[]
): Promise<Output> {
  const all = ["netns", "exec", ns.name, ...flanneldCommand(), ...args];
  return await exec("ip", all, agentEnvironment(env));
}

/** A test that only the built program can pass. */
export function binaryTest(name: string, fn: (binary: string) => Promise<void>): void {
  const built = Deno.env.get("FLANNELD_BIN");
  Deno.test({
    name: built ? name : `${name} (skipped: FLANNELD_BIN names no built flanneld)`,
    ignore: !built,
    fn: () => fn(Deno.realPathSync(built!)),
  });
}

/** What `flanneld peers --json` prints on a node. */
export async function peersOf(node: Node): Promise<PeersReport> {
  const { code, stdout, stderr } = await runFlanneld(node, "peers", "--json");
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as PeersReport;
}
