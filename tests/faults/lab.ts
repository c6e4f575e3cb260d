/**
 * What the faults strike: a cluster of five nodes and three members of etcd, an agent and a
 * container on each node, probes between all containers, and etcd's history of the leases.
 *
 * @module
 */
import { Cluster, type Container, type Node, PREFIX } from "../../testbed/cluster.ts";
import { exec, run, waitFor } from "../../testbed/netns.ts";
import { runFlanneld } from "../e2e/support.ts";
import { History, Owners } from "./history.ts";
import {
  DEVICE,
  type Difference,
  difference,
  dump,
  hostGwDifference,
  type PeerLease,
  tunnelDifference,
  tunnelPeers,
  vxlanDifference,
} from "./kernel.ts";
import { Ledger, type Pair } from "./ledger.ts";
import { Probes } from "./probes.ts";

/** Which agent runs on the nodes. */
export type AgentKind = "ours" | "go";

/** What {@linkcode Lab.create} makes. */
export interface LabOptions {
  agent: AgentKind;
  backend: "vxlan" | "udp";
  /** Seconds that a lease lasts; Go flannel's is a day whatever is asked for. */
  ttl: number;
  /** Seconds that etcd is down. */
  outage: number;
  /** 5 where absent. */
  nodes?: number;
}

/** Packets in a row that show that a pair works. */
const STREAK = 10;

/** A peer that is not there, to see whether the agents follow etcd. */
const CANARY = { key: "10.1.0.0-24", subnet: "10.1.0.0/24", ip: "192.168.77.200" };

/** What a network can be carried by here. */
export type BackendName = "vxlan" | "host-gw" | "udp";

/** What a node's lease says in etcd. */
interface Stored {
  key: string;
  value: { PublicIP: string; BackendData?: { VtepMAC: string } };
}

/** See the module. */
export class Lab implements AsyncDisposable {
  readonly ledger: Ledger;
  history!: History;
  probes!: Probes;
  containers: Container[] = [];
  /** The backend that the agents have now. */
  backend: BackendName;
  readonly #before: string[][] = [];
  readonly #mounts: string[] = [];
  #disposing: Promise<void> | undefined;
  /** Node by the MAC of its vxlan device. */
  readonly #macs = new Map<string, number>();

  private constructor(readonly options: LabOptions, readonly cluster: Cluster) {
    this.ledger = new Ledger(cluster.nodes.length);
    this.backend = options.backend;
  }

  /** Makes all of it; resolves when all pairs work. */
  static async create(options: LabOptions): Promise<Lab> {
    const nodes = options.nodes ?? 5;
    const cluster = await Cluster.create({
      label: `faults-${options.agent}`,
      nodes,
      etcdMembers: 3,
      // Slower to elect than by default: a busy machine must not look like a dead leader.
      etcd: { args: ["--heartbeat-interval=200", "--election-timeout=2000"] },
      network: networkOf(options.backend),
      goNodes: options.agent === "go" ? Array.from({ length: nodes }, (_, index) => index) : [],
      agentArgs: options.agent === "ours" ? [`--subnet-lease-ttl=${options.ttl}`] : [],
    });
    const lab = new Lab(options, cluster);
    try {
      await lab.#setUp();
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
    return lab;
  }

  get nodes(): Node[] {
    return this.cluster.nodes;
  }

  get isOurs(): boolean {
    return this.options.agent === "ours";
  }

  /** Writes the network config with another backend or network, or as it was. */
  async writeConfig(changes: Record<string, unknown> = {}): Promise<void> {
    const text = JSON.stringify({ ...networkOf(this.options.backend), ...changes });
    await this.ctl("put", "--", `${PREFIX}/config`, text);
  }

  async #setUp(): Promise<void> {
    const { cluster } = this;
    for (const node of this.nodes) {
      // The subnet file's disk, small enough to be filled.
      await run("mount", ["-t", "tmpfs", "-o", "size=64k", "faults", node.folder]);
      this.#mounts.push(node.folder);
      const tentative = ["-6", "-o", "address", "show", "tentative"];
      await waitFor(async () => await node.ns.run("ip", ...tentative) === "", {
        what: "the interfaces' own addresses",
      });
      this.#before.push(await dump(node.ns));
    }
    const endpoints = cluster.etcds.map(({ endpoint }) => endpoint);
    const owners = new Owners((value) => this.#owner(value));
    this.history = new History(cluster.switch, endpoints, owners);
    await cluster.startAgents();
    this.containers = await cluster.attachAll("c1");
    await this.#learn();
    this.probes = new Probes(this.containers, this.ledger);
    await waitFor(() => [...this.ledger.pairs()].every((pair) => this.works(pair, 0)), {
      limitMs: 60_000,
      what: "packets between all pairs",
    });
  }

  /** Whether a pair's last packets, all sent after `since`, arrived. */
  works(pair: Pair, since: number): boolean {
    return this.ledger.worksSince(pair, since, STREAK) !== undefined;
  }

  // etcd.

  /** Runs `etcdctl` against all members. */
  async ctl(...args: string[]): Promise<string> {
    const endpoints = this.cluster.etcds.map(({ endpoint }) => endpoint).join(",");
    const options = ["--endpoints", endpoints, "--dial-timeout=1s", "--command-timeout=3s"];
    return await this.cluster.switch.run(
      ...["env", "ETCDCTL_API=3", "etcdctl", ...options, ...args] as const,
    );
  }

  /** As {@linkcode ctl}, until it works. */
  async ctlUntil(...args: string[]): Promise<string> {
    return await waitFor(async () => ({ text: await this.ctl(...args) }), {
      limitMs: 60_000,
      intervalMs: 100,
      what: `etcdctl ${args[0]}`,
    }).then(({ text }) => text);
  }

  /** The leases in etcd but the canary. */
  async leases(): Promise<Stored[]> {
    const { kvs = [] } = JSON.parse(
      await this.ctl("get", "--prefix", `${PREFIX}/subnets/`, "-w", "json"),
    ) as { kvs?: { key: string; value: string }[] };
    return kvs.map(({ key, value }) => ({
      key: atob(key).slice(`${PREFIX}/subnets/`.length),
      value: JSON.parse(atob(value)) as Stored["value"],
    })).filter(({ key }) => key !== CANARY.key);
  }

  /** etcd's revision. */
  async revision(): Promise<number> {
    const answer = JSON.parse(await this.ctl("get", "none", "-w", "json")) as {
      header: { revision: number };
    };
    return answer.header.revision;
  }

  /** Key of a node's lease, by its subnet file. */
  async leaseKey(index: number): Promise<string> {
    const { FLANNEL_SUBNET } = await this.nodes[index].env();
    return FLANNEL_SUBNET.replace(/\.1\/(\d+)$/, ".0-$1");
  }

  /**
   * Waits until a node's lease has expired. Go flannel's lasts a day, so its time is cut short.
   */
  async expire(index: number, since: number): Promise<void> {
    const key = await this.leaseKey(index);
    if (!this.isOurs) {
      const { kvs } = JSON.parse(
        await this.ctlUntil("get", `${PREFIX}/subnets/${key}`, "-w", "json"),
      ) as { kvs?: { lease: number }[] };
      // JSON numbers hold 53 bits; the id is read from the text.
      const text = await this.ctlUntil("lease", "list");
      for (const id of kvs ? text.match(/^[0-9a-f]{8,}$/gm) ?? [] : []) {
        const keys = await this.ctl("lease", "timetolive", id, "--keys");
        if (keys.includes(`/subnets/${key}]`)) await this.ctl("lease", "revoke", id);
      }
    }
    await waitFor(() => this.history.deletedAt(key, since), {
      limitMs: (this.options.ttl * 2 + 30) * 1000,
      what: `the end of the lease ${key}`,
    });
  }

  /** Keeps a node from all members of etcd. */
  async cutFromEtcd(index: number, cut: boolean): Promise<void> {
    const rule = ["OUTPUT", "-p", "tcp", "--dport", "2379", "-j", "REJECT"];
    await this.nodes[index].ns.run("iptables", cut ? "-I" : "-D", ...rule);
  }

  /** Index of the member that leads. */
  async leader(): Promise<number> {
    return await waitFor(async () => {
      const states = await Promise.all(this.cluster.etcds.map(async (etcd) => {
        const [{ Status }] = JSON.parse(
          await etcd.ctl("endpoint", "status", "-w", "json"),
        ) as { Status: { leader: number; header: { member_id: number } } }[];
        return Status.leader === Status.header.member_id;
      }));
      const index = states.indexOf(true);
      return index >= 0 ? { index } : undefined;
    }, { limitMs: 20_000, what: "a leader of etcd" }).then(({ index }) => index);
  }

  // Agents.

  /** Starts a node's agent and does not wait. */
  startAgent(index: number, start: { args?: string[]; env?: Record<string, string> } = {}): void {
    this.nodes[index].startAgent(start);
  }

  /** Ends a node's agent by SIGKILL. */
  async killAgent(index: number): Promise<void> {
    await this.nodes[index].agent?.[Symbol.asyncDispose]();
  }

  /** Ends a node's agent by SIGTERM, and starts it anew. */
  async restartAgent(
    index: number,
    start: { args?: string[]; env?: Record<string, string> } = {},
  ): Promise<void> {
    await this.stopAgent(index);
    this.startAgent(index, start);
  }

  /** Ends a node's agent by SIGTERM, by SIGKILL where that takes longer than 10 s. */
  async stopAgent(index: number): Promise<void> {
    const { agent } = this.nodes[index];
    agent?.kill("SIGTERM");
    await Promise.race([agent?.status, new Promise((done) => setTimeout(done, 10_000))]);
    await this.killAgent(index);
  }

  /** What is wrong with a node's agent; undefined where nothing is. */
  async agentProblem(node: Node): Promise<string | undefined> {
    if (!node.agent || node.agent.ended) {
      return `${node.ns.name}: the agent ended: ${node.agent?.lines.at(-1) ?? ""}`;
    }
    const { status } = await node.health("/readyz");
    return status === 200 ? undefined : `${node.ns.name}: readyz ${status}`;
  }

  // What must hold.

  /** Writes a peer's lease, waits until all nodes route to it, deletes it, and waits again. */
  async canary(since: number, limitMs: number): Promise<number> {
    if (!this.showsPeers) return since;
    const isThere = async (node: Node) =>
      this.backend === "udp"
        ? (await tunnelPeers(node)).has(CANARY.ip)
        : (await node.ns.exec("ip", "route", "show", CANARY.subnet)).stdout !== "";
    const has = async (node: Node, wanted: boolean) => await isThere(node) === wanted;
    const all = async (wanted: boolean) => {
      const left = Math.max(1_000, since + limitMs - Date.now());
      await Promise.all(this.nodes.map((node) =>
        waitFor(() => has(node, wanted), {
          limitMs: left,
          what: `the new peer to ${wanted ? "come to" : "go from"} ${node.ns.name}`,
        })
      ));
    };
    await this.ctlUntil("put", `${PREFIX}/subnets/${CANARY.key}`, canaryValue(this.backend));
    try {
      await all(true);
    } finally {
      await this.ctlUntil("del", `${PREFIX}/subnets/${CANARY.key}`);
    }
    const at = Date.now();
    await all(false);
    return at;
  }

  /** Whether the peers that a node has can be seen: Go flannel's udp backend shows none. */
  get showsPeers(): boolean {
    return this.backend !== "udp" || this.isOurs;
  }

  /** What of the kernels is not as the leases call for, by entry. */
  async kernelDifference(): Promise<Difference> {
    const { backend } = this;
    if (!this.showsPeers) return difference([], []);
    const leases = new Map<string, PeerLease>((await this.leases()).map(({ key, value }) => [key, {
      subnet: key.replace("-", "/"),
      publicIP: value.PublicIP,
      mac: value.BackendData?.VtepMAC ?? "",
    }]));
    const parts = await Promise.all(this.nodes.map(async (node) => {
      const { ns, index } = node;
      const key = await this.leaseKey(index);
      const own = leases.get(key);
      if (!own) return { missing: [`${ns.name}: lease ${key}`], extra: [] };
      const peers = [...leases].filter(([other]) => other !== key).map(([, lease]) => lease);
      const differences = {
        "vxlan": () => vxlanDifference(ns, own, peers),
        "host-gw": () => hostGwDifference(ns, peers),
        "udp": () => tunnelDifference(node, peers),
      };
      const { missing, extra } = await differences[backend]();
      const named = (lines: string[]) => lines.map((line) => `${ns.name}: ${line}`);
      return { missing: named(missing), extra: named(extra) };
    }));
    return {
      missing: parts.flatMap(({ missing }) => missing),
      extra: parts.flatMap(({ extra }) => extra),
    };
  }

  /** Subnets that more than one node says are its own, in its subnet file. */
  async sharedSubnets(): Promise<string[]> {
    const keys = await Promise.all(this.nodes.map(({ index }) => this.leaseKey(index)));
    return keys.filter((key, index) => keys.indexOf(key) !== index);
  }

  /**
   * Starts all agents without devices and leases, so that nothing of before is left in their kernels:
   * what a person does where nothing else helps. By the subnet files they keep their subnets.
   */
  async reset(): Promise<void> {
    for (const { index } of this.nodes) await this.stopAgent(index);
    await this.ctlUntil("del", "--prefix", `${PREFIX}/subnets/`);
    for (const { ns } of this.nodes) await ns.exec("ip", "link", "del", DEVICE);
    for (const { index, subnetFile } of this.nodes) {
      this.startAgent(index);
      await waitFor(() => Deno.stat(subnetFile), { limitMs: 20_000, what: subnetFile });
    }
    await waitFor(() => this.#learn().then(() => true), { limitMs: 20_000, what: DEVICE });
  }

  /** Notes which node has which MAC, so that the history knows a lease's owner. */
  async #learn(): Promise<void> {
    if (this.options.backend !== "vxlan") return;
    for (const { ns, index } of this.nodes) {
      const text = await ns.run("cat", `/sys/class/net/${DEVICE}/address`);
      this.#macs.set(text.trim(), index);
    }
  }

  /** A node by its MAC or, where that is new, by its address: 192.168.77.11 and .51 are node 1. */
  #owner(value: string): string {
    const { PublicIP, BackendData } = JSON.parse(value) as Stored["value"];
    const known = this.#macs.get(BackendData?.VtepMAC ?? "");
    const host = Number(PublicIP.split(".").at(-1));
    return `node ${known ?? (host >= 51 ? host - 51 : host - 11)}`;
  }

  /** Ends and removes what the agents made, and tells what is left of it. */
  async cleanUp(): Promise<string[]> {
    const left: string[] = [];
    this.probes?.stop();
    for (const { index } of this.nodes) await this.stopAgent(index);
    await Promise.all(this.containers.map(({ ns }) => ns[Symbol.asyncDispose]()));
    for (const [index, node] of this.nodes.entries()) {
      if (this.isOurs) await runFlanneld(node, "cleanup");
      // The bridge of Go flannel's containers is this program's.
      else await node.ns.exec("ip", "link", "del", "cni0");
      const { missing, extra } = difference(this.#before[index], await dump(node.ns));
      left.push(...extra.map((line) => `${node.ns.name} has ${line}`));
      left.push(...missing.map((line) => `${node.ns.name} lacks ${line}`));
    }
    return left;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposing ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    this.probes?.stop();
    await this.history?.[Symbol.asyncDispose]();
    const agents = this.nodes.map(({ agent }) => agent?.[Symbol.asyncDispose]());
    await Promise.allSettled(agents);
    for (const folder of this.#mounts) await exec("umount", ["-l", folder]);
    await this.cluster[Symbol.asyncDispose]();
  }
}

function canaryValue(backend: BackendName): string {
  return JSON.stringify({
    PublicIP: CANARY.ip,
    PublicIPv6: null,
    BackendType: backend,
    ...(backend === "vxlan" ? { BackendData: { VNI: 1, VtepMAC: "02:00:00:00:0c:01" } } : {}),
  });
}

function networkOf(backend: "vxlan" | "udp"): Record<string, unknown> {
  return { Network: "10.1.0.0/16", Backend: { Type: backend } };
}
