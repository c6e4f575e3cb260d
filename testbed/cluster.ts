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
  /** Members of etcd, 1 where absent, each on a host of its own. */
  etcdMembers?: number;
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

/** A network config whose subnets from 10.1.201.0 on are left to leases that a test writes. */
export function configWithRoom(
  backend?: Record<string, unknown> & { Type: string },
): Record<string, unknown> {
  return { ...networkConfig("ipv4", backend), SubnetMax: "10.1.200.0" };
}

/** See the module. */
export class Cluster implements AsyncDisposable {
  /** The namespace of the switch; its bridge is `br0`, its port to node i `p<i>`. */
  switch!: NetNs;
  /** The first member of {@linkcode etcds}. */
  etcd!: Etcd;
  /** All members of etcd. */
  etcds: Etcd[] = [];
  /** The namespace that the first member runs in. */
  etcdHost!: NetNs;
  /** The namespaces of all members. */
  etcdHosts: NetNs[] = [];
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
    const { tls, options: { auth } } = this.etcd;
    return [
      `--etcd-endpoints=${this.etcds.map(({ endpoint }) => endpoint).join(",")}`,
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
    const parts: AsyncDisposable[] = [...this.etcds, ...this.namespaces];
    const results = await Promise.allSettled(parts.map((part) => part[Symbol.asyncDispose]()));
    if (this.#folder) await Deno.remove(this.#folder, { recursive: true });
    const errors = results.flatMap((result) => result.status === "rejected" ? result.reason : []);
    if (errors.length > 0) throw new AggregateError(errors, "cannot remove the cluster");
  }

  async #setUp(): Promise<void> {
    const { label, nodes = 2, network, etcdOnNode, etcdMembers = 1, mtu = 1500, goNodes } =
      this.options;
    this.#folder = await Deno.makeTempDir({ prefix: `flanneld-${label}-` });
    for (let index = 0; index < nodes; index++) {
      const folder = `${this.#folder}/node${index + 1}`;
      await Deno.mkdir(folder);
      const ns = await this.namespace(`node${index + 1}`);
      await forwardPackets(ns);
      const kind = goNodes?.includes(index) ? GoNode : Node;
      this.nodes.push(new kind(this, index, ns, folder));
    }
    const hosts: NetNs[] = [];
    for (let index = 0; etcdOnNode === undefined && index < etcdMembers; index++) {
      hosts.push(await this.namespace(`etcd${etcdMembers > 1 ? index + 1 : ""}`));
    }
    const ports = this.nodes.map(({ ns, index }) => this.#port(ns, 11 + index));
    for (const [index, host] of hosts.entries()) ports.push(this.#port(host, 2 + index));
    this.switch = await lan(`${label}-sw`, ports, { mtu });
    this.namespaces.push(this.switch);
    await this.#gateway();
    await Promise.all(ports.map((port) => defaultRoutes(port.ns, gateways(this.families))));
    this.etcdHosts = etcdOnNode === undefined ? hosts : [this.nodes[etcdOnNode].ns];
    const first = etcdOnNode === undefined ? 2 : 11 + etcdOnNode;
    this.etcdHost = this.etcdHosts[0];
    await this.#startEtcd(this.etcdHosts.map((_, index) => this.#etcdAddress(first + index)));
    if (network !== null) await this.writeConfig(network ?? networkConfig(this.families));
  }

  #etcdAddress(host: number): string {
    const ip = addresses(this.families, host)[0].split("/")[0];
    return ip.includes(":") ? `[${ip}]` : ip;
  }

  /** Starts a member on each of {@linkcode etcdHosts}; of several, each waits for the others. */
  async #startEtcd(ips: string[]): Promise<void> {
    const { etcd = {} } = this.options;
    const name = (index: number) => `member${index + 1}`;
    const peer = (ip: string) => `http://${ip}:2380`;
    const all = ips.map((ip, index) => `${name(index)}=${peer(ip)}`).join(",");
    const member = (ip: string, index: number) =>
      Etcd.start({
        ...etcd,
        address: `${ip}:2379`,
        netns: this.etcdHosts[index].name,
        parent: this.#folder,
        // Of a flag given twice the last counts.
        args: ips.length === 1 ? etcd.args : [
          ...["--name", name(index), "--initial-cluster", all],
          ...["--listen-peer-urls", peer(ip), "--initial-advertise-peer-urls", peer(ip)],
          ...etcd.args ?? [],
        ],
      });
    const started = await Promise.allSettled(ips.map(member));
    for (const result of started) {
      if (result.status === "fulfilled") this.etcds.push(result.value);
    }
    for (const result of started) if (result.status === "rejected") throw result.reason;
    this.etcd = this.etcds[0];
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
