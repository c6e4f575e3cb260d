/** What an agent does and holds while nothing happens. */
import assert from "node:assert/strict";
import { LARGE_NETWORK, memoryOf, putPeers } from "../../tools/bench/lib.ts";
import { Cluster, type Node } from "../../testbed/cluster.ts";
import { type NetNs, waitFor } from "../../testbed/netns.ts";
import { binaryTest, eventually } from "./support.ts";

/** Seconds between checks that find nothing, were they made. */
const RESYNC = 1;
/** Milliseconds without a command. */
const QUIET = 5_000;

/** Private memory in MB of an agent that is alone, of one that compiled the program as it started,
 * and what 5,000 peers and reports about them add. */
const ALONE_MB = 27;
const FIRST_START_MB = 40;
const PEERS_MB = 20;
/** Milliseconds in which an agent gives back what its start needed, on a busy machine. */
const START_LIMIT = 60_000;

const TOOLS = ["iptables", "ip6tables"].flatMap((base) =>
  ["save", "restore"].flatMap((
    end,
  ) => [`${base}-${end}`, `${base}-nft-${end}`, `${base}-legacy-${end}`])
);

/** Commands that note each call and are those of one variant where their name says none. */
class NotedTools {
  readonly #log: string;

  private constructor(readonly folder: string) {
    this.#log = `${folder}/calls`;
  }

  static async create(node: Node, variant: "nft" | "legacy"): Promise<NotedTools> {
    const tools = new NotedTools(`${node.folder}/tools`);
    await Deno.mkdir(tools.folder);
    await Deno.writeTextFile(tools.#log, "");
    for (const name of [...TOOLS, "nft"]) {
      const real = name.replace(/^(ip6?tables)-(save|restore)$/, `$1-${variant}-$2`);
      const script = `#!/bin/sh\necho "${name} $*" >> ${tools.#log}\nexec /usr/sbin/${real} "$@"\n`;
      await Deno.writeTextFile(`${tools.folder}/${name}`, script, { mode: 0o755 });
    }
    return tools;
  }

  async calls(): Promise<string[]> {
    return (await Deno.readTextFile(this.#log)).split("\n").slice(0, -1);
  }

  /** Waits until no command was started for a while. */
  async quiet(): Promise<void> {
    let since = performance.now();
    let count = (await this.calls()).length;
    await waitFor(async () => {
      const calls = await this.calls();
      if (calls.length !== count) since = performance.now();
      count = calls.length;
      return performance.now() - since > QUIET;
    }, { limitMs: 5 * QUIET, what: `${QUIET / 1000} s without a command` });
    assert.ok(count > 0, "the agent uses these commands");
  }
}

Deno.test("no command is started while rules are right, and what is removed is put back", async () => {
  await using cluster = await Cluster.create({
    label: "idle",
    agentArgs: [`--iptables-resync=${RESYNC}`, "--ip-masq"],
  });
  const variants = ["nft", "legacy"] as const;
  const tools = await Promise.all(
    cluster.nodes.map((node, index) => NotedTools.create(node, variants[index])),
  );
  for (const [index, node] of cluster.nodes.entries()) {
    node.startAgent({ env: { PATH: `${tools[index].folder}:${Deno.env.get("PATH")}` } });
  }
  await Promise.all(cluster.nodes.map((node) => node.waitReady()));
  await Promise.all(tools.map((one) => one.quiet()));

  const removals = {
    nft: ["iptables-nft -F FORWARD", "nft flush chain ip filter FLANNEL-FWD", "nft flush ruleset"],
    legacy: ["iptables-legacy -F FLANNEL-FWD", "iptables-legacy -t nat -F POSTROUTING"],
  };
  await Promise.all(cluster.nodes.map(async ({ ns }, index) => {
    const variant = variants[index];
    for (const removal of removals[variant]) {
      const right = await rules(ns, variant);
      assert.match(right, /-j FLANNEL-FWD[^]*-A FLANNEL-FWD -s[^]*-j FLANNEL-POSTRTG/);
      await ns.run("sh", "-c", removal);
      await eventually(async () => assert.equal(await rules(ns, variant), right), {
        limitMs: RESYNC * 1000 + 2_000,
        what: `the rules after ${removal}`,
      });
    }
  }));
  // Putting them back is a change of its own, and ends.
  await Promise.all(tools.map((one) => one.quiet()));
});

async function rules(ns: NetNs, variant: string): Promise<string> {
  const of = (table: string) => ns.run(`iptables-${variant}`, "-w", "-t", table, "-S");
  return await of("filter") + await of("nat");
}

binaryTest("what only a first start needs is given back", async (binary) => {
  await using cluster = await Cluster.create({ label: "first", nodes: 1 });
  const [node] = cluster.nodes;
  // An empty cache: the runtime compiles the program and keeps the result.
  const cache = `${node.folder}/cache`;
  await Deno.mkdir(cache);
  const { pid } = node.startAgent({ binary, env: { FLANNELD_CACHE_DIR: cache } });
  await node.waitReady(30_000);
  await heldWithin(pid, FIRST_START_MB);
});

binaryTest(
  "a node with 5,000 peers whose metrics are read stays within its bound",
  async (binary) => {
    const network = { ...LARGE_NETWORK, Backend: { Type: "udp" } };
    await using cluster = await Cluster.create({ label: "scraped", nodes: 1, network });
    await putPeers(cluster, 0, 5_000, "udp");
    const [node] = cluster.nodes;
    const { pid } = node.startAgent({ binary });
    await node.waitReady(30_000);
    for (let scrape = 0; scrape < 20; scrape++) {
      const { body } = await node.health("/metrics");
      assert.match(body, /^flanneld_peers 5000$/m);
    }
    await heldWithin(pid, ALONE_MB + PEERS_MB);
  },
);

/** Waits until a process has no more private memory than this many MB. */
async function heldWithin(pid: number, most: number): Promise<void> {
  let privateDirty = Infinity;
  await waitFor(async () => {
    ({ privateDirty } = await memoryOf(pid));
    return privateDirty <= most;
  }, { limitMs: START_LIMIT, what: `at most ${most} MB of private memory` })
    .catch((error) => assert.fail(`${error}: it has ${privateDirty} MB`));
}
