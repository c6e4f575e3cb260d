/**
 * Hosts of a flannel network in one machine: a switch, a namespace a host, a real etcd, agents, and
 * containers on their bridges.
 *
 * @example
 * ```ts
 * await using cluster = await Cluster.create({ label: "demo" });
 * await cluster.startAgents();
 * const [a, b] = await cluster.attachAll("c1");
 * await a.ns.run("ping", "-c1", "-W1", b.ipv4!);
 * ```
 *
 * @module
 */
import { Etcd, type EtcdOptions } from "./etcd.ts";
import { lan, NetNs } from "./netns.ts";
import {
  addresses,
  type AgentProcess,
  type AgentStart,
  type Container,
  defaultRoutes,
  type Families,
  GoNode,
  Node,
} from "./node.ts";

export {
  type AgentProcess,
  type AgentStart,
  type Container,
  type Families,
  GO_FLANNELD,
  GoNode,
  HEALTH_PORT,
  Node,
  waitReach,
} from "./node.ts";

/** What {@linkcode Cluster.create} makes. */
export interface ClusterOptions {
  /** Part of the namespaces' names. */
  label: string;
  /** Hosts, 2 where absent, 200 at most. */
  nodes?: number;
  /** `ipv4` where absent. */
  families?: Families;
  /**
   * Network config, as JSON text or as what becomes it; {@linkcode networkConfig} of the families
   * where absent, null to write none.
   */
  network?: string | Record<string, unknown> | null;
  /** TLS, users and flags of etcd. */
  etcd?: Pick<EtcdOptions, "tls" | "auth" | "args">;
  /** Run etcd on this host rather than on one of its own. */
  etcdOnNode?: number;
  /** Of the underlay, 1500 where absent. */
  mtu?: number;
  /** Flags for each agent. */
  agentArgs?: string[];
  /** Hosts that run the Go agent at {@linkcode GO_FLANNELD}. */
  goNodes?: number[];
}

/** Where the config, and below `subnets/` the leases, are in etcd. */
export const PREFIX = "/coreos.com/network";

/** A network config for `families` with this backend, `{"Type": …}` and its options. */
export function networkConfig(
  families: Families = "ipv4",
  backend: Record<string, unknown> & { Type: string } = { Type: "vxlan" },
): Record<string, unknown> {
  return {
    ...(families === "ipv6" ? { EnableIPv4: false } : { Network: "10.1.0.0/16" }),
    ...(families === "ipv4" ? {} : { EnableIPv6: true, IPv6Network: "fd00:1::/48" }),
    Backend: backend,
  };
}

/** See the module. */
export class Cluster implements AsyncDisposable {
  /** The namespace of the switch; its bridge is `br0`, its port to node i `p<i>`. */
  switch!: NetNs;
  etcd!: Etcd;
  /** The namespace that etcd runs in. */
  etcdHost!: NetNs;
  readonly nodes: Node[] = [];
  /** Everything to remove. */
  readonly namespaces: NetNs[] = [];
  readonly #creations = new Set<Promise<NetNs>>();
  #folder = "";
  #disposing: Promise<void> | undefined;

  private constructor(readonly options: ClusterOptions) {}

  /** Makes the hosts and etcd, and writes the network config. What is half made is removed. */
  static async create(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    try {
      await cluster.#setUp();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  node(index: number): Node {
    return this.nodes[index];
  }

  get families(): Families {
    return this.options.families ?? "ipv4";
  }

  /** Starts an agent on each host and waits until all are ready. */
  async startAgents(start: AgentStart = {}): Promise<AgentProcess[]> {
    const agents: AgentProcess[] = [];
    for (const node of this.nodes) {
      agents.push(node.startAgent(start));
      // Of two Go agents that pick the same subnet at once, one gives up.
      if (node instanceof GoNode) await node.waitReady();
    }
    await Promise.all(this.nodes.map((node) => node.waitReady()));
    return agents;
  }

  /** Attaches a container to each host. */
  attachAll(name: string): Promise<Container[]> {
    return Promise.all(this.nodes.map((node) => node.attach(name)));
  }

  /** Writes the network config: JSON text, or what becomes it. */
  async writeConfig(network: string | Record<string, unknown>): Promise<void> {
    const text = typeof network === "string" ? network : JSON.stringify(network);
    await this.etcd.ctl("put", "--", `${PREFIX}/config`, text);
  }

  /** The agent's flags that lead to etcd. */
  etcdArgs(): string[] {
    const { endpoint, tls, options: { auth } } = this.etcd;
    return [
      `--etcd-endpoints=${endpoint}`,
      ...(tls
        ? [
          ...[`--etcd-cafile=${tls.ca}`, `--etcd-certfile=${tls.cert}`],
          `--etcd-keyfile=${tls.key}`,
        ]
        : []),
      ...(auth ? [`--etcd-username=${auth.username}`, `--etcd-password=${auth.password}`] : []),
    ];
  }

  /** The leases in etcd as they stand there: values by the key's last part. */
  async leases(): Promise<Map<string, string>> {
    const { kvs = [] } = JSON.parse(
      await this.etcd.ctl("get", "--prefix", `${PREFIX}/subnets/`, "-w", "json"),
    ) as { kvs?: { key: string; value?: string }[] };
    return new Map(kvs.map(({ key, value }) => [
      atob(key).slice(`${PREFIX}/subnets/`.length),
      atob(value ?? ""),
    ]));
  }

  /** Ends all processes and removes all namespaces and files. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposing ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    // A caller that was interrupted may have left some behind half made.
    await Promise.allSettled(this.#creations);
    const parts: (AsyncDisposable | undefined)[] = [this.etcd, ...this.namespaces];
    const results = await Promise.allSettled(parts.map((part) => part?.[Symbol.asyncDispose]()));
    if (this.#folder) await Deno.remove(this.#folder, { recursive: true });
    const errors = results.flatMap((result) => result.status === "rejected" ? result.reason : []);
    if (errors.length > 0) throw new AggregateError(errors, "cannot remove the cluster");
  }

  async #setUp(): Promise<void> {
    const { label, nodes = 2, network, etcd = {}, etcdOnNode, mtu = 1500, goNodes } = this.options;
    this.#folder = await Deno.makeTempDir({ prefix: `flanneld-${label}-` });
    for (let index = 0; index < nodes; index++) {
      const folder = `${this.#folder}/node${index}`;
      await Deno.mkdir(folder);
      const ns = await this.namespace(`node${index + 1}`);
      await forwardPackets(ns);
      const kind = goNodes?.includes(index) ? GoNode : Node;
      this.nodes.push(new kind(this, index, ns, folder));
    }
    const host = etcdOnNode === undefined ? await this.namespace("etcd") : undefined;
    const ports = this.nodes.map(({ ns, index }) => this.#port(ns, 11 + index));
    if (host) ports.push(this.#port(host, 2));
    this.switch = await lan(`${label}-sw`, ports, { mtu });
    this.namespaces.push(this.switch);
    await this.#gateway();
    await Promise.all(ports.map((port) => defaultRoutes(port.ns, gateways(this.families))));
    const ip = addresses(this.families, host ? 2 : 11 + etcdOnNode!)[0].split("/")[0];
    this.etcdHost = host ?? this.nodes[etcdOnNode!].ns;
    this.etcd = await Etcd.start({
      ...etcd,
      address: `${ip.includes(":") ? `[${ip}]` : ip}:2379`,
      netns: this.etcdHost.name,
      parent: this.#folder,
    });
    if (network !== null) await this.writeConfig(network ?? networkConfig(this.families));
  }

  /** Makes a namespace that goes with the cluster. */
  async namespace(name: string): Promise<NetNs> {
    if (this.#disposing) throw new Error("the cluster was removed");
    const creation = NetNs.create(`${this.options.label}-${name}`);
    this.#creations.add(creation);
    try {
      const ns = await creation;
      this.namespaces.push(ns);
      return ns;
    } finally {
      this.#creations.delete(creation);
    }
  }

  #port(ns: NetNs, host: number) {
    return { ns, dev: "eth0", addresses: addresses(this.families, host) };
  }

  /** The default route of all hosts leads to the switch, where it ends. */
  async #gateway(): Promise<void> {
    for (const address of addresses(this.families, 1)) {
      const nodad = address.includes(":") ? ["nodad"] : [];
      await this.switch.run("ip", "address", "add", address, "dev", "br0", ...nodad);
    }
  }
}

function gateways(families: Families): string[] {
  return addresses(families, 1).map((address) => address.split("/")[0]);
}

/** A host forwards between its bridge and the overlay, as every container runtime sets it to. */
async function forwardPackets(ns: NetNs): Promise<void> {
  await ns.sysctl("net.ipv4.ip_forward", 1);
  await ns.sysctl("net.ipv6.conf.all.forwarding", 1);
}
