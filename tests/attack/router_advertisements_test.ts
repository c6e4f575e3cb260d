/**
 * Router advertisements by which a container or a peer would become the host's default router.
 *
 * @module
 */
import assert from "node:assert/strict";
import { eventually } from "../e2e/support.ts";
import { Cluster } from "../../testbed/cluster.ts";
import type { NetNs } from "../../testbed/netns.ts";

/** Sends an advertisement with a lifetime of 1800 s to all nodes on a device (RFC 4861, 4.2). */
const ADVERTISE = `
import socket, struct, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0),
         ("ff02::1", 0, 0, socket.if_nametoindex(sys.argv[1])))
`;

async function advertise(ns: NetNs, dev: string): Promise<void> {
  await ns.run("python3", "-c", ADVERTISE, dev);
}

Deno.test("switching IPv6 forwarding on opens no way for router advertisements but the uplink's", async () => {
  await using cluster = await Cluster.create({ label: "advertise", nodes: 1, families: "dual" });
  const { switch: router, nodes: [node] } = cluster;
  const { ns } = node;
  const accepts = async (dev: string) =>
    (await ns.run("cat", `/proc/sys/net/ipv6/conf/${dev}/accept_ra`)).trim();
  await ns.sysctl("net.ipv6.conf.all.forwarding", 0);
  // What another agent and another bridge plugin left: devices that are up, with the kernel's defaults.
  const vxlan = ["type", "vxlan", "id", "1", "local", node.ipv4!, "dev", "eth0"];
  await ns.run("ip", "link", "add", "flannel.1", ...vxlan, "dstport", "8472", "nolearning");
  await ns.run("ip", "link", "add", "cni0", "type", "bridge");
  await ns.run("ip", "link", "add", "other0", "type", "bridge");
  for (const dev of ["flannel.1", "cni0", "other0"]) {
    await ns.run("ip", "link", "set", dev, "up");
    assert.equal(await accepts(dev), "1", dev);
  }
  node.startAgent({ args: ["--bridge=cni0"] });
  await node.waitReady();
  await eventually(async () => {
    assert.equal((await ns.run("sysctl", "-n", "net.ipv6.conf.all.forwarding")).trim(), "1");
  });
  assert.equal(await accepts("eth0"), "2", "the uplink's routes stay");
  for (const dev of ["flannel.1", "cni0"]) assert.equal(await accepts(dev), "0", dev);
  assert.equal(await accepts("other0"), "1", "a router takes none");
  const container = await node.attach("c1");
  const learned = async () => await ns.run("ip", "-6", "route", "show", "default", "proto", "ra");
  await eventually(async () => {
    await advertise(container.ns, "eth0");
    await advertise(router, "br0");
    assert.match(await learned(), /dev eth0/);
  });
  assert.doesNotMatch(await learned(), /cni0/);
});

Deno.test("a device whose setting was changed takes no router advertisements after the next look", async () => {
  await using cluster = await Cluster.create({ label: "advsysctl", nodes: 1 });
  const [{ ns }] = cluster.nodes;
  await cluster.startAgents();
  const setting = "/proc/sys/net/ipv6/conf/flannel.1/accept_ra";
  await ns.run("sh", "-c", `echo 2 >${setting}`);
  // Something else that is put right, by which the agent looks at all.
  await ns.run("ip", "link", "set", "flannel.1", "mtu", "1300");
  await eventually(async () => assert.equal((await ns.run("cat", setting)).trim(), "0"));
});
