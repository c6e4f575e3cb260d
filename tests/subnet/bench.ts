/**
 * An etcd with subnet managers, for the tests of this folder.
 *
 * @module
 */
import { configure, type LogRecord, reset } from "@logtape/logtape";
import type { NetworkConfig } from "../../subnet/config.ts";
import { EtcdSubnetManager, type EtcdSubnetManagerOptions } from "../../subnet/etcd/manager.ts";
import type { Lease, LeaseAttrs } from "../../subnet/types.ts";
import { Etcd, type EtcdOptions } from "../../testbed/etcd.ts";
import { waitFor } from "../../testbed/netns.ts";

export const PREFIX = "/coreos.com/network";
export const NONE = { subnet: null, ipv6Subnet: null };
export const NETWORK = { Network: "10.1.0.0/16", Backend: { Type: "vxlan" } };
export const DUAL = { ...NETWORK, EnableIPv6: true, IPv6Network: "fd00:1::/48" };

/** An etcd, the managers that a test makes, and what they logged. */
export class Bench implements AsyncDisposable {
  readonly logged: string[] = [];
  readonly #stop = new AbortController();
  readonly #managers: EtcdSubnetManager[] = [];
  readonly #running: Promise<void>[] = [];

  private constructor(readonly etcd: Etcd) {}

  static async start(network?: object, options?: EtcdOptions): Promise<Bench> {
    const bench = new Bench(await Etcd.start(options));
    const sink = ({ level, message }: LogRecord) =>
      bench.logged.push(`${level} ${message.join("")}`);
    await configure({
      reset: true,
      sinks: { list: sink },
      loggers: [
        { category: "flanneld", lowestLevel: "info", sinks: ["list"] },
        { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["list"] },
      ],
    });
    if (network) await bench.putConfig(network);
    return bench;
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  async putConfig(network: object | string): Promise<void> {
    const text = typeof network === "string" ? network : JSON.stringify(network);
    await this.etcd.ctl("put", `${PREFIX}/config`, text);
  }

  /** Writes a peer's lease as another agent would. */
  async putLease(key: string, value: object | string, ...more: string[]): Promise<void> {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    await this.etcd.ctl("put", `${PREFIX}/subnets/${key}`, text, ...more);
  }

  /** Keys of leases and their values. */
  async leases(): Promise<Map<string, string>> {
    const lines = (await this.etcd.ctl("get", "--prefix", `${PREFIX}/subnets/`)).trim().split("\n");
    const found = new Map<string, string>();
    for (let at = 0; at + 1 < lines.length; at += 2) {
      found.set(lines[at].slice(`${PREFIX}/subnets/`.length), lines[at + 1]);
    }
    return found;
  }

  /** Id of the etcd lease that a key hangs on, 0 for none. */
  async leaseId(key: string): Promise<number> {
    const text = await this.etcd.ctl("get", `${PREFIX}/subnets/${key}`, "-w", "json");
    return JSON.parse(text).kvs[0].lease ?? 0;
  }

  /** Transactions that etcd was asked for since its start; leases are read and claimed by them. */
  async transactions(): Promise<number> {
    const response = await fetch(`${this.etcd.endpoint}/metrics`);
    const text = await response.text();
    return Number(/^grpc_server_started_total\{grpc_method="Txn".*\} (\d+)$/m.exec(text)![1]);
  }

  manager(options: Partial<EtcdSubnetManagerOptions> = {}): EtcdSubnetManager {
    const { tls, options: { auth } } = this.etcd;
    const manager = new EtcdSubnetManager({
      endpoints: [this.etcd.endpoint],
      prefix: PREFIX,
      previous: NONE,
      renewMarginMinutes: 60,
      ...(tls && { cafile: tls.ca, certfile: tls.cert, keyfile: tls.key }),
      ...auth,
      ...options,
    });
    this.#managers.push(manager);
    return manager;
  }

  /** A manager with a lease. */
  async node(
    host: number,
    options: Partial<EtcdSubnetManagerOptions> = {},
    more: Partial<LeaseAttrs> = {},
  ): Promise<Node> {
    const manager = this.manager(options);
    const network = await manager.networkConfig(this.signal);
    const lease = await manager.acquire(network, attrs(host, more), this.signal);
    return { manager, network, lease };
  }

  /** Follows and keeps a node's lease until the test's end. */
  run({ manager, lease }: Node): Followed {
    const followed = new Followed();
    this.#running.push(
      manager.watch(lease, {
        peers: (peers) => followed.batches.push(peers),
        lost: (reason) => followed.lost.push(reason),
        config: (raw) => followed.configs.push(raw),
      }, this.signal),
      manager.keep(lease, this.signal),
    );
    return followed;
  }

  count(pattern: RegExp): number {
    return this.logged.filter((line) => pattern.test(line)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    try {
      await Promise.all(this.#running);
    } finally {
      await Promise.all(this.#managers.map((manager) => manager.close()));
      await this.etcd[Symbol.asyncDispose]();
      await reset();
    }
  }
}

export interface Node {
  manager: EtcdSubnetManager;
  network: NetworkConfig;
  lease: Lease;
}

/** What the handlers of a watch were told. */
export class Followed {
  readonly batches: ReadonlyMap<string, Lease>[] = [];
  readonly lost: string[] = [];
  readonly configs: (string | undefined)[] = [];

  get peers(): ReadonlyMap<string, Lease> {
    return this.batches.at(-1) ?? new Map();
  }

  /** Waits until the peers are these. */
  async until(...keys: string[]): Promise<void> {
    const wanted = keys.toSorted().join(" ");
    await waitFor(
      () => this.batches.length > 0 && [...this.peers.keys()].sort().join(" ") === wanted,
      { limitMs: 15_000, what: `peers [${wanted}]`, intervalMs: 5 },
    );
  }
}

export function attrs(host: number, more: Partial<LeaseAttrs> = {}): LeaseAttrs {
  return { publicIP: `192.0.2.${host}`, publicIPv6: null, backendType: "host-gw", ...more };
}

/** A peer's value as Go flannel writes it. */
export function value(host: number): object {
  return { PublicIP: `192.0.2.${host}`, PublicIPv6: null, BackendType: "host-gw" };
}
