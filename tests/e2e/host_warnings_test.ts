/** What the agent warns of once at its start, and what it does not. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import { eventually, matching } from "./support.ts";

/** Lines that a check of the host may have logged. */
const WARNINGS = /overlaps|rp_filter|public address .* is on/;

Deno.test("overlaps, a strict rp_filter and an address on lo are warned of once, with the remedy", async () => {
  await using cluster = await Cluster.create({ label: "hostwarn", families: "ipv4" });
  const [odd, ordinary] = cluster.nodes;
  const { ns } = odd;
  const ip = (...args: string[]) => ns.run("ip", ...args);
  // Strict as on RHEL: on an ordinary host nothing is lost by it.
  await ordinary.ns.sysctl("net.ipv4.conf.all.rp_filter", 1);
  await ordinary.ns.run("ip", "route", "add", "0.0.0.0/1", "via", "192.168.77.1");
  ordinary.startAgent();
  await ordinary.waitReady();

  await ip("link", "add", "br9", "type", "bridge");
  await ip("address", "add", "10.1.250.9/24", "dev", "br9");
  await ip("address", "add", "192.168.88.2/24", "dev", "br9");
  await ip("link", "set", "br9", "up");
  await ip("route", "add", "10.1.251.0/24", "via", "192.168.77.1");
  await ip("route", "add", `${ordinary.ipv4}/32`, "via", "192.168.88.1", "dev", "br9", "onlink");
  await ip("address", "add", "192.0.2.77/32", "dev", "lo");
  await ns.sysctl("net.ipv4.conf.eth0.rp_filter", 1);
  const agent = odd.startAgent({ args: ["--iface=192.0.2.77"] });
  await odd.waitReady();
  const expected = [
    /^W.*public address 192\.0\.2\.77 is on lo, whose MTU \(65536\).*using 1500.*set Backend\.MTU/,
    /^W.*10\.1\.0\.0\/16 overlaps the address 10\.1\.250\.9\/24 on br9.*set another Network/,
    /^W.*10\.1\.0\.0\/16 overlaps the route 10\.1\.251\.0\/24 via 192\.168\.77\.1 dev eth0.*ip route del/,
    /^W.*Strict rp_filter on eth0 drops packets from 192\.168\.77\.12.*rp_filter=2/,
  ];
  for (const line of expected) await agent.waitForLine(line);
  // The containers' bridge has an address of the overlay, and a restart makes no second warning.
  await odd.attach("c1");
  await ip("link", "delete", "flannel.1");
  await agent.waitForLine(/Restored kernel state/);
  assert.equal(matching(agent, WARNINGS).length, expected.length, agent.lines.join("\n"));

  await ordinary.attach("c1");
  await eventually(async () => assert.equal((await ordinary.health("/readyz")).status, 200));
  assert.deepEqual(matching(ordinary.agent!, WARNINGS), []);
});
