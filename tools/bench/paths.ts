/**
 * Ways for packets between two namespaces that one veth pair joins: bare, by the kernel's VXLAN, by
 * wireguard-go and by agents with the udp backend. Each pair of agents has namespaces of its own.
 *
 * @module
 */
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { NetNs, veth, waitFor } from "../../testbed/netns.ts";
import { type Contender, waitSubnetFile } from "./lib.ts";
import { WireguardGo } from "./wireguard.ts";

/** A way from one namespace to an address in another. */
export interface Path {
  name: string;
  from: NetNs;
  to: NetNs;
  /** Where it ends. */
  address: string;
}

/** Names of the paths. */
export const PATHS = {
  veth: "bare veth",
  vxlan: "kernel VXLAN",
  ours: "ours, udp",
  go: "flannel, udp",
  wireguard: "wireguard-go",
  toGo: "ours to flannel",
  fromGo: "flannel to ours",
};

const DEVICE = "direct";
const MTU = 1500;
/** Underlay addresses of the two ends. */
const ENDS = ["192.168.78.1", "192.168.78.2"];
const VXLAN_ENDS = ["10.98.0.1", "10.98.0.2"];
const WIREGUARD_ENDS = ["10.97.0.1", "10.97.0.2"];

async function join([a, b]: NetNs[]): Promise<void> {
  const port = (ns: NetNs, index: number) => ({
    ns,
    dev: DEVICE,
    addresses: [`${ENDS[index]}/24`],
  });
  await veth(port(a, 0), port(b, 1), { mtu: MTU });
}

/** The veth pair itself and what lies on it without agents; wireguard-go where it can be had. */
export async function plainPaths(stack: AsyncDisposableStack): Promise<Path[]> {
  const made = [await NetNs.create("btun-a"), await NetNs.create("btun-b")];
  for (const ns of made) stack.use(ns);
  await join(made);
  const [from, to] = made;
  await Promise.all(made.map((ns, index) => vxlan(ns, index)));
  const paths = [
    { name: PATHS.veth, from, to, address: ENDS[1] },
    { name: PATHS.vxlan, from, to, address: VXLAN_ENDS[1] },
  ];
  const program = await WireguardGo.build();
  if (typeof program === "string") {
    console.error(`bench: no wireguard-go: ${program}`);
    return paths;
  }
  stack.use(program);
  const [a, b] = made.map((ns, index) => ({
    ns,
    underlay: ENDS[index],
    inner: WIREGUARD_ENDS[index],
  }));
  await program.join(a, b);
  return [...paths, { name: PATHS.wireguard, from, to, address: WIREGUARD_ENDS[1] }];
}

/** One end of a VXLAN of two, with the MTU that the kernel derives: 50 bytes less. */
async function vxlan(ns: NetNs, index: number): Promise<void> {
  await ns.run(
    ...["ip", "link", "add", "vxlan0", "type", "vxlan", "id", "4099", "dstport", "8472"] as const,
    ...["local", ENDS[index], "remote", ENDS[1 - index], "dev", DEVICE],
  );
  await ns.run("ip", "address", "add", `${VXLAN_ENDS[index]}/24`, "dev", "vxlan0");
  await ns.run("ip", "link", "set", "vxlan0", "up");
}

/** Two agents with the udp backend: the way from the first one to the second one's device. */
export async function agentPaths(
  stack: AsyncDisposableStack,
  contenders: [Contender, Contender],
  names: { there: string; back?: string },
): Promise<Path[]> {
  const network = networkConfig("ipv4", { Type: "udp" });
  const cluster = stack.use(await Cluster.create({ label: "btun", network }));
  await join(cluster.nodes.map(({ ns }) => ns));
  const nodes = cluster.nodes.map((node, index) => contenders[index].on(node));
  for (const node of nodes) {
    node.startAgent({ args: [`--iface=${DEVICE}`] });
    // Of two Go agents that pick the same subnet at once, one gives up.
    await waitSubnetFile(node);
  }
  const [a, b] = nodes;
  const way = async (name: string, from: Node, to: Node) => ({
    name,
    from: from.ns,
    to: to.ns,
    address: await base(to),
  });
  const paths = [await way(names.there, a, b)];
  if (names.back !== undefined) paths.push(await way(names.back, b, a));
  return paths;
}

/** Address of a host's overlay device, the first of its subnet. */
async function base(node: Node): Promise<string> {
  return (await node.env()).FLANNEL_SUBNET.replace(/\.1\/\d+$/, ".0");
}

/** Waits until a path carries packets. */
export async function waitOpen({ name, from, address }: Path): Promise<void> {
  await waitFor(() => from.run("ping", "-c1", "-W1", address), {
    limitMs: 20_000,
    what: `an answer by ${name}`,
  });
}
