/** Which changes of the packet filter the data plane tells of. */
import assert from "node:assert/strict";
import { RemoteDataPlane } from "../../testbed/dataplane.ts";
import { NetNs, waitFor } from "../../testbed/netns.ts";

/** Seconds within which a change is told. */
const PERIOD = 0.3;
/** Milliseconds in which whatever is told would have been told, on a busy machine. */
const LONG = 1_500;

/** A namespace whose packet filter is watched. */
async function watched() {
  const ns = await NetNs.create("filter");
  const dataplane = await RemoteDataPlane.open(ns);
  await dataplane.watchPacketFilter(PERIOD);
  const told = () => dataplane.events.filter(({ type }) => type === "packetFilter").length;
  return {
    ns,
    told,
    /** Runs a command that changes rules, and waits until that is told. */
    async change(...command: [string, ...string[]]) {
      const before = told();
      await ns.run(...command);
      await waitFor(() => told() > before, { limitMs: 5_000, what: command.join(" ") });
      // The tool may have made the change in several steps.
      await new Promise((done) => setTimeout(done, 2 * PERIOD * 1000));
    },
    /** Nothing is told of what `work` does. */
    async quiet(work: () => Promise<unknown>, what: string) {
      const before = told();
      await work();
      await new Promise((done) => setTimeout(done, LONG));
      assert.equal(told(), before, what);
    },
    async [Symbol.asyncDispose]() {
      await dataplane[Symbol.asyncDispose]();
      await ns[Symbol.asyncDispose]();
    },
  };
}

Deno.test("changes by iptables are told, of both variants and families", async () => {
  const tools = ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];
  await Promise.all(tools.map(async (tool) => {
    const network = tool.startsWith("ip6") ? "fd00:1::/48" : "10.1.0.0/16";
    await using host = await watched();
    await host.quiet(() => host.ns.run(`${tool}-save`), "nothing happens");
    await host.change(tool, "-N", "FLANNEL-FWD");
    await host.change(tool, "-A", "FLANNEL-FWD", "-s", network, "-j", "ACCEPT");
    await host.change(tool, "-R", "FLANNEL-FWD", "1", "-d", network, "-j", "ACCEPT");
    await host.change(tool, "-P", "FORWARD", "DROP");
    await host.change(tool, "-t", "nat", "-A", "POSTROUTING", "-s", network, "-j", "MASQUERADE");
    await host.change(tool, "-t", "nat", "-F", "POSTROUTING");
    await host.change(tool, "-I", "INPUT", "-i", "lo", "-j", "ACCEPT");
    await host.ns.run("ip", "link", "set", "lo", "up");
    await host.quiet(async () => {
      const address = tool.startsWith("ip6") ? "::1" : "127.0.0.1";
      await host.ns.run("ping", "-c2", "-i0.2", address);
      assert.match(await host.ns.run(`${tool}-save`, "-c"), /^\[[1-9]\d*:\d+\] -A INPUT/m);
    }, "counters, and who reads them");
  }));
});

Deno.test("changes by nft are told, elements of sets are not", async () => {
  await using host = await watched();
  await host.change("nft", "add table inet other");
  await host.change(
    "nft",
    "add chain inet other forwarded { type filter hook forward priority 0; }",
  );
  await host.change("nft", "add rule inet other forwarded ip saddr 10.1.0.0/16 drop");
  await host.change("nft", "flush chain inet other forwarded");
  await host.change("nft", "add set inet other blocked { type ipv4_addr; }; add table ip third");
  await host.quiet(async () => {
    await host.ns.run("nft", "add element inet other blocked { 192.0.2.1, 192.0.2.2 }");
    await host.ns.run("nft", "delete element inet other blocked { 192.0.2.1 }");
    await host.ns.run("nft", "list ruleset");
  }, "elements of sets, and who reads them");
  await host.change("nft", "flush ruleset");
});

Deno.test("many changes are told a few times, the last one too", async () => {
  await using host = await watched();
  const { ns, told } = host;
  await host.change("nft", "add table ip other; add chain ip other many");
  const before = told();
  const started = performance.now();
  const line = "nft add rule ip other many accept";
  await ns.run("sh", "-c", `for i in $(seq 200); do ${line}; done`);
  await waitFor(() => told() > before, { limitMs: 5_000, what: "a change to be told" });
  const seconds = (performance.now() - started) / 1000;
  assert.ok(told() - before <= seconds / PERIOD + 1, `${told() - before} times in ${seconds} s`);
  // More than the socket holds at once: the kernel drops some, and says so.
  await new Promise((done) => setTimeout(done, LONG));
  await host.change("sh", "-c", "yes 'add rule ip other many accept' | head -n 20000 | nft -f -");
});
