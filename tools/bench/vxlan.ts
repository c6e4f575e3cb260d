/**
 * TCP between two hosts: over the agent's device, over a vxlan device made by hand with the same
 * parameters in the same namespaces, and over the underlay itself, in turns.
 *
 * @module
 */
import { Cluster, type Node } from "../../testbed/cluster.ts";
import { waitFor } from "../../testbed/netns.ts";
import { type Contender, DEVICE, median, type Row, waitSubnetFile } from "./lib.ts";

const ROUNDS = 3;
const SECONDS = 5;
/** Two devices may share a UDP port, not a VNI. */
const HAND_MADE = { dev: "handmade", vni: 4099 };
/** Ours must reach this share of the hand-made one: two runs of one device differ as much. */
const LEAST = 0.95;

/** What `ip -j -d link show` says of a vxlan device, the part used here. */
interface VxlanDevice {
  mtu: number;
  address: string;
  linkinfo: { info_data: { local: string; port: number; learning: boolean; link: string } };
}

/** See the module. */
export async function vxlan(contenders: Contender[]): Promise<Row[]> {
  const ours = contenders.find(({ name }) => name === "ours") ?? contenders[0];
  await using cluster = await Cluster.create({ label: "bvx", nodes: 2 });
  const nodes = cluster.nodes.map((node) => ours.on(node));
  for (const node of nodes) node.startAgent();
  await Promise.all(nodes.map(waitSubnetFile));
  await makeByHand(nodes);
  const server = nodes[1].ns.spawn("iperf3", ["--server", "--forceflush"]);
  await server.waitForLine(/listening/i);
  const subnet = (await nodes[1].env()).FLANNEL_SUBNET;
  const paths: Record<string, string> = {
    ours: subnet.replace(/\.1\/\d+$/, ".0"),
    handmade: handMadeAddress(1),
    veth: nodes[1].ipv4!,
  };
  const samples: Record<string, number[]> = {};
  for (const ip of Object.values(paths)) {
    await waitFor(() => nodes[0].ns.run("ping", "-c1", "-W1", ip), {
      what: `an answer from ${ip}`,
    });
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, ip] of Object.entries(paths)) {
      (samples[name] ??= []).push(await throughput(nodes[0], ip));
    }
  }
  const of = (name: string) => median(samples[name]);
  const base = { figure: "TCP, one stream, median (Gbit/s)", ours: of("ours"), samples };
  return [
    {
      ...base,
      peer: of("handmade"),
      peerName: "hand-made vxlan",
      goal: `ratio >= ${LEAST}`,
      met: of("ours") / of("handmade") >= LEAST,
    },
    { ...base, peer: of("veth"), peerName: "bare veth", goal: "", met: undefined },
  ];
}

/** Joins the two hosts by a second vxlan, set up as the agent sets up its own. */
async function makeByHand(nodes: Node[]): Promise<void> {
  const devices = await Promise.all(nodes.map(async ({ ns }) => {
    const text = await ns.run("ip", "-j", "-d", "link", "show", DEVICE);
    return (JSON.parse(text) as VxlanDevice[])[0];
  }));
  const macs = devices.map(({ address }) => address.replace(/^../, "06"));
  const { dev, vni } = HAND_MADE;
  for (const [index, { ns }] of nodes.entries()) {
    const { mtu, linkinfo: { info_data: data } } = devices[index];
    const other = nodes[1 - index];
    await ns.run(
      ...["ip", "link", "add", dev, "address", macs[index], "mtu", `${mtu}`] as const,
      ...["type", "vxlan", "id", `${vni}`, "local", data.local, "dev", data.link],
      ...["dstport", `${data.port}`, data.learning ? "learning" : "nolearning"],
    );
    await ns.run("ip", "address", "add", `${handMadeAddress(index)}/32`, "dev", dev);
    await ns.run("ip", "link", "set", dev, "up");
    const to = handMadeAddress(1 - index);
    const permanent = ["nud", "permanent"];
    await ns.run("bridge", "fdb", "add", macs[1 - index], "dev", dev, "dst", other.ipv4!, "self");
    await ns.run("ip", "neigh", "add", to, "lladdr", macs[1 - index], "dev", dev, ...permanent);
    await ns.run("ip", "route", "add", `${to}/24`, "via", to, "dev", dev, "onlink");
  }
}

function handMadeAddress(index: number): string {
  return `10.99.${index}.0`;
}

/** Gbit/s as the receiver counts them. */
async function throughput(from: Node, ip: string): Promise<number> {
  const text = await from.ns.run("iperf3", "--client", ip, "--time", `${SECONDS}`, "--json");
  const result = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } };
  return result.end.sum_received.bits_per_second / 1e9;
}
