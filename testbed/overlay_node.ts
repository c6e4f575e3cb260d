/** A node between containers, and what its packet filters let through. */
import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { type TrafficRules, trafficRules, type TrafficRulesOptions } from "../traffic/mod.ts";
import { filterHost, topology } from "./filter_host.ts";
import { NetNs, waitFor } from "./netns.ts";

export const WANTED = trafficRules({
  ipv4: { network: "10.1.0.0/16", subnet: "10.1.5.0/24" },
  ipv6: { network: "fd00:1::/48", subnet: "fd00:1:0:5::/64" },
  ipMasq: false,
  randomFully: true,
  forwardRules: true,
});
const TOOLS = ["iptables", "ip6tables"];

type Host = Awaited<ReturnType<typeof filterHost>>;

/** A node between a container of its own and one of a peer. */
export async function node(variant: "nft" | "legacy" = "nft", options: TrafficRulesOptions = {}) {
  const h = await filterHost(variant, { bridge: () => "cni0", ...options });
  const pod = await NetNs.create("pod");
  const peer = await NetNs.create("peer");
  await topology(h, pod, peer);
  for (
    const [address, via, subnet] of [
      ["10.1.6.2/32", "192.0.2.1", "10.1.5.0/24"],
      ["fd00:1:0:6::2/128", "2001:db8::1", "fd00:1:0:5::/64"],
    ]
  ) {
    await peer.run("ip", "address", "add", address, "dev", "lo");
    await peer.run("ip", "route", "add", subnet, "via", via);
  }
  await h.ns.run("ip", "route", "add", "10.1.6.0/24", "via", "192.0.2.2");
  await h.ns.run("ip", "route", "add", "fd00:1:0:6::/64", "via", "2001:db8::2");
  const passes = async (from: NetNs, source: string, target: string) =>
    (await from.exec("ping", "-c1", "-W1", "-I", source, target)).code === 0;
  const passing = async () => {
    const all = await Promise.all([
      passes(pod, "10.1.5.2", "10.1.6.2"),
      passes(peer, "10.1.6.2", "10.1.5.2"),
      passes(pod, "fd00:1:0:5::2", "fd00:1:0:6::2"),
      passes(peer, "fd00:1:0:6::2", "fd00:1:0:5::2"),
    ]);
    return all.map(Number).join("");
  };
  // Neighbours of IPv6 are found a second after the devices are up.
  await waitFor(async () => await passing() === "1111", { limitMs: 20_000, what: "packets" });
  return {
    ...h,
    /** Which of IPv4 and IPv6 get through, begun by the container or by the peer's. */
    passing,
    nft: (text: string) => h.ns.run("nft", text),
    [Symbol.asyncDispose]: async () => {
      await pod[Symbol.asyncDispose]();
      await peer[Symbol.asyncDispose]();
      await h[Symbol.asyncDispose]();
    },
  };
}

/** Runs a command for both families by a variant of iptables. */
export async function both(h: Host, variant: string, ...args: string[]): Promise<void> {
  for (const tool of TOOLS) await h.ns.run(`${tool}-${variant}`, "-w", ...args);
}

export async function forward(h: Host, variant: string): Promise<string[]> {
  const lines: string[] = [];
  for (const tool of TOOLS) lines.push(await h.ns.run(`${tool}-${variant}`, "-S", "FORWARD"));
  return lines;
}

export async function ensured(rules: TrafficRules): Promise<void> {
  assert.deepEqual((await rules.ensure(WANTED)).errors, []);
}

/** What is logged while `work` runs. */
export async function logged(work: () => Promise<void>): Promise<string[]> {
  const records: LogRecord[] = [];
  await configure({
    sinks: { memory: (record) => records.push(record) },
    loggers: [
      { category: "flanneld", sinks: ["memory"], lowestLevel: "info" },
      { category: ["logtape", "meta"], sinks: [] },
    ],
  });
  try {
    await work();
  } finally {
    await reset();
  }
  return records.map(({ message }) => message.join(""));
}
