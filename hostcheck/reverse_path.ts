/**
 * Whether the kernel's strict reverse path filter (`rp_filter=1`) drops peers' packets: those that
 * come in by one interface while this host's route back leads through another.
 *
 * The kernel itself is asked about each packet, with its rules, tables and multipath routes, so that
 * a strict filter that drops nothing is nothing to speak of.
 *
 * @module
 */
import { type Finding, pass, warn } from "../backends/finding.ts";
import type { Flow } from "../dataplane/host.ts";
import type { KernelState } from "../dataplane/state.ts";
import { Cidr } from "../base/cidr.ts";
import { isAddressOnly } from "./address_only.ts";
import { type HostFacts, type HostSource, named, sample } from "./facts.ts";

const CHECK = "rp_filter";

/** Packets of a peer, and how to name it. */
interface PeerFlow extends Flow {
  peer: string;
}

/** Looks at IPv4; the kernel has no such filter for IPv6. Nothing where there are no peers. */
export async function reversePathFindings(
  facts: HostFacts,
  source: HostSource,
): Promise<Finding[]> {
  if (facts.backend.type === "alloc") return [];
  const flows = [...await outerFlows(facts, source), ...innerFlows(facts, source)];
  if (flows.length === 0) return [];
  const answers = await source.reversePath(flows.map(({ src, dst, dev }) => ({ src, dst, dev })));
  const dropped = new Map<string, Set<string>>();
  for (const [at, { dev, peer }] of flows.entries()) {
    if (!answers[at].dropped || answers[at].filter !== 1) continue;
    dropped.set(dev, (dropped.get(dev) ?? new Set()).add(peer));
  }
  if (dropped.size === 0) {
    const strict = flows.some((_, at) => answers[at].filter === 1);
    return [pass(CHECK, strict ? "strict, and drops no peer's packets" : "not strict")];
  }
  return [...dropped].map(([dev, peers]) => {
    const setting = `net.ipv4.conf.${dev.replaceAll(".", "/")}.rp_filter=2`;
    return warn(
      CHECK,
      `strict rp_filter on ${dev} drops packets from ${
        named([...peers])
      }: they arrive on ${dev}, but this host's route back leads elsewhere`,
      `run "sysctl -w ${setting}", or correct the route`,
    );
  });
}

/** Packets between the hosts. */
async function outerFlows(
  { iface, peers }: HostFacts,
  source: HostSource,
): Promise<PeerFlow[]> {
  if (iface.ip === null) return [];
  const devs = await entrances(iface.name, source);
  return sample(peers).flatMap(({ attrs: { publicIP } }) =>
    publicIP === null
      ? []
      : devs.map((dev) => ({ src: publicIP, dst: iface.ip!, dev, peer: publicIP }))
  );
}

/** Where packets to the public address come in: all uplinks where it is on no link itself. */
async function entrances(name: string, source: HostSource): Promise<string[]> {
  const interfaces = await source.interfaces();
  const iface = interfaces.find((each) => each.name === name);
  if (iface === undefined || !isAddressOnly(iface)) return [name];
  const uplinks = (await source.defaultRoutes()).filter(({ ipv6 }) => !ipv6);
  return [...new Set(uplinks.map(({ dev }) => dev))];
}

/** Packets from containers of peers, as they leave the tunnel or come in by the link. */
function innerFlows(
  { network, backend, iface, lease, peers }: HostFacts,
  source: HostSource,
): PeerFlow[] {
  if (!network.ipv4 || !lease?.subnet || iface.ip === null) return [];
  const some = sample(peers);
  const ips = some.flatMap(({ attrs: { publicIP, publicIPv6 } }) =>
    [publicIP, publicIPv6].filter((ip) => ip !== null)
  );
  const routes = new Map(source.routesTo(ips).map((route, at) => [ips[at], route]));
  const { kernel } = backend.state(lease, some, (ip) => routes.get(ip));
  return some.flatMap(({ subnet }) => {
    if (subnet === null) return [];
    const dev = deviceOf(kernel, subnet) ?? iface.name;
    // The backends' devices have the subnet's base address; others' packets are for containers.
    const dst = backend.devices.includes(dev) ? lease.subnet!.address : iface.ip!;
    return [{ src: subnet.nth(1n), dst, dev, peer: `containers of ${subnet}` }];
  });
}

/** The device of the narrowest route to a subnet. */
function deviceOf({ routes }: KernelState, subnet: Cidr): string | undefined {
  const found = routes.filter(({ dst }) => Cidr.parse(dst).contains(subnet));
  found.sort((one, other) => Cidr.parse(other.dst).length - Cidr.parse(one.dst).length);
  return found[0]?.dev;
}
