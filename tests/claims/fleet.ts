/**
 * Managers that live as an agent has them live, each behind a connection of its own that can be cut,
 * and what may happen to them.
 *
 * @module
 */
import { collide } from "../../subnet/allocate.ts";
import { EtcdSubnetManager } from "../../subnet/etcd/manager.ts";
import type { Subnets } from "../../subnet/lease_codec.ts";
import type { HeldLease, Lease, LeaseAttrs, PreviousSubnets } from "../../subnet/types.ts";
import { waitFor } from "../../testbed/netns.ts";
import { Proxy } from "../../testbed/proxy.ts";
import { type History, MOVED, nodeOf, OPERATOR, Operator } from "./history.ts";

/** Seconds that a lease lasts. */
const TTL = 2;
/** Milliseconds within which all is as it should be, once nothing more happens. */
const CALM = 40_000;

/** What can happen. */
export const ACTIONS = [
  ...["start", "start", "start", "crash", "crash", "stop", "cut", "cut", "mend", "mend"],
  ...["delete", "delete all", "revoke", "overwrite", "garbage", "config", "reconnect", "expire"],
  ...["move", "move", "forget"],
] as const;

/** Something that happens to a manager, and the milliseconds after it. */
export interface Action {
  kind: (typeof ACTIONS)[number];
  /** Modulo the number of managers. */
  who: number;
  pause: number;
}

/** What to begin with. */
export interface FleetOptions {
  managers: number;
  families: "ipv4" | "dual" | "ipv6";
}

const NONE: PreviousSubnets = { subnet: null, ipv6Subnet: null };

/** A node: its connection and, while it runs, its manager. */
class Member implements AsyncDisposable {
  /** The lease that it believes to have. */
  belief: Lease | undefined;
  peers: ReadonlyMap<string, Lease> = new Map();
  #previous = NONE;
  /** What it remembers of its lease, as a file would. */
  #held: HeldLease | undefined;
  #moves = 0;
  #manager: EtcdSubnetManager | undefined;
  #stop = new AbortController();
  #living: Promise<void> | undefined;
  #problem: unknown;
  readonly #proxy: Proxy;

  /** @param addressed its attributes, with this in the addresses */
  constructor(
    readonly addressed: (host: number) => LeaseAttrs,
    readonly host: number,
    address: string,
    readonly prefix: string,
  ) {
    this.#proxy = new Proxy(address);
  }

  /** What it announces where it is now. */
  get attrs(): LeaseAttrs {
    return this.addressed(this.host + MOVED * (this.#moves % 2));
  }

  /** The node, by its first address. */
  get address(): string {
    return nodeOf((this.attrs.publicIP ?? this.attrs.publicIPv6)!);
  }

  get runs(): boolean {
    return this.#manager !== undefined;
  }

  /** Whether its lease has time left by its own account. */
  get hasTime(): boolean {
    return (this.belief?.expiration ?? 0) > Date.now();
  }

  start(): void {
    if (this.#manager) return;
    this.#stop = new AbortController();
    this.#manager = new EtcdSubnetManager({
      endpoints: [this.#proxy.endpoint],
      prefix: this.prefix,
      previous: this.#previous,
      memory: { recall: () => this.#held, keep: (held) => this.#held = held },
      renewMarginMinutes: 60,
      subnetTtlSeconds: TTL,
    });
    this.#living = this.#live(this.#manager, this.#stop.signal).catch((error) => {
      if (!this.#stop.signal.aborted) this.#problem = error;
    });
  }

  /** Sessions, one after another, as the agent has them. */
  async #live(manager: EtcdSubnetManager, signal: AbortSignal): Promise<void> {
    const config = await manager.networkConfig(signal);
    let lease: Lease | undefined;
    while (!signal.aborted) {
      lease = await manager.acquire(config, this.attrs, signal, lease);
      this.belief = lease;
      this.#previous = { subnet: lease.subnet, ipv6Subnet: lease.ipv6Subnet };
      const session = new AbortController();
      const both = AbortSignal.any([signal, session.signal]);
      const watching = manager.watch(lease, {
        peers: (peers) => this.peers = peers,
        lost: () => {
          this.belief = undefined;
          session.abort();
        },
        config: () => {},
      }, both);
      await Promise.all([watching, manager.keep(lease, both)]);
    }
  }

  /** Ends it; where it crashes, etcd hears nothing of that. */
  async end(crash: boolean): Promise<void> {
    if (!this.#manager) return;
    if (crash) this.cut();
    this.#stop.abort();
    this.belief = undefined;
    await this.#living;
    await this.#manager.close();
    this.#manager = undefined;
    if (crash) this.mend();
  }

  /** It comes back under its other address. */
  async move(): Promise<void> {
    await this.end(true);
    this.#moves++;
    this.start();
  }

  /** Loses its files; only its address is left, as it is now. */
  async forget(): Promise<void> {
    await this.end(true);
    this.#held = undefined;
    this.#previous = NONE;
    this.start();
  }

  cut(): void {
    this.#proxy.cut();
  }

  mend(): void {
    this.#proxy.mend();
  }

  reconnect(): void {
    this.#manager?.reconnect();
  }

  /** @throws what ended its life, if it was not us */
  assertAlive(): void {
    if (this.#problem !== undefined) throw this.#problem;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end(false);
    this.#proxy[Symbol.dispose]();
  }
}

/** See the module. */
export class Fleet implements AsyncDisposable {
  readonly #members: Member[];
  readonly #operator: Operator;
  readonly #history: History;
  readonly #families: FleetOptions["families"];
  #configs = 0;
  /** Revision at which an operator last laid hands on a key; on all: the empty key. */
  readonly #disturbed = new Map<string, number>();

  private constructor(
    endpoint: string,
    prefix: string,
    history: History,
    { managers, families }: FleetOptions,
  ) {
    this.#operator = new Operator(endpoint, prefix);
    this.#history = history;
    this.#families = families;
    this.#members = Array.from({ length: managers }, (_, at) => {
      const addressed = (host: number) => ({
        publicIP: families === "ipv6" ? null : `192.0.2.${host}`,
        publicIPv6: families === "ipv4" ? null : `2001:db8::${host}`,
        backendType: "host-gw",
      });
      return new Member(addressed, at + 1, new URL(endpoint).host, prefix);
    });
  }

  /** Starts all managers at once. */
  static async start(
    endpoint: string,
    prefix: string,
    history: History,
    options: FleetOptions,
  ): Promise<Fleet> {
    const fleet = new Fleet(endpoint, prefix, history, options);
    await fleet.#config();
    for (const member of fleet.#members) member.start();
    return fleet;
  }

  /** A config with subnets of another length, which those take up that start after it. */
  async #config(): Promise<void> {
    const more = this.#configs++ % 3;
    await this.#operator.put(
      undefined,
      JSON.stringify({
        EnableIPv4: this.#families !== "ipv6",
        Network: "10.1.0.0/16",
        ...{ SubnetLen: 24 + more, SubnetMin: "10.1.1.0", SubnetMax: "10.1.12.0" },
        EnableIPv6: this.#families !== "ipv4",
        IPv6Network: "fd00:1::/48",
        ...{
          IPv6SubnetLen: 64 + more,
          IPv6SubnetMin: "fd00:1:0:1::",
          IPv6SubnetMax: "fd00:1:0:c::",
        },
      }),
    );
  }

  /** Has something happen. */
  async act({ kind, who, pause }: Action): Promise<void> {
    const member = this.#members[who % this.#members.length];
    const key = member.belief?.key;
    switch (kind) {
      case "start":
        member.start();
        break;
      case "crash":
      case "stop":
        await member.end(kind === "crash");
        break;
      case "move":
      case "forget":
        await member[kind]();
        break;
      case "cut":
        member.cut();
        break;
      case "mend":
        member.mend();
        break;
      case "reconnect":
        member.reconnect();
        break;
      case "config":
        await this.#config();
        break;
      case "expire":
        member.cut();
        await sleep(who % 2 === 0 ? TTL * 1000 + 700 : TTL * 600);
        member.mend();
        break;
      case "delete all":
        await this.#disturb("", () => this.#operator.deleteAll());
        break;
      case "delete":
      case "revoke":
        if (key !== undefined) await this.#disturb(key, () => this.#operator[kind](key));
        break;
      case "garbage":
        if (key !== undefined) await this.#disturb(key, () => this.#operator.put(key, "[]"));
        break;
      case "overwrite":
        if (key !== undefined) await this.#disturb(key, () => this.#overwrite(key, who % 200));
        break;
    }
    await sleep(pause);
    for (const one of this.#members) one.assertAlive();
  }

  /** An operator lays hands on a lease, on all where `key` is empty. */
  async #disturb(key: string, operate: () => Promise<number>): Promise<void> {
    this.#disturbed.set(key, Infinity);
    this.#disturbed.set(key, await operate());
  }

  async #overwrite(key: string, host: number): Promise<number> {
    const value = { PublicIP: `${OPERATOR}${host}`, PublicIPv6: `2001:db8:1::${host}` };
    await this.#operator.put(key, JSON.stringify(value));
    await sleep(host);
    // An operator's lease has no end: in time, it would take the place of all nodes.
    return await this.#operator.delete(key);
  }

  /** Whether a member's lease has time left, and no operator took it since it was claimed. */
  #isSure({ belief, hasTime }: Member): boolean {
    if (belief === undefined || !hasTime) return false;
    const disturbed = [this.#disturbed.get(belief.key) ?? 0, this.#disturbed.get("") ?? 0];
    return Number(belief.revision) > Math.max(...disturbed);
  }

  /** Who has time left has its key in etcd, and nobody else believes in any of it. */
  async assertOwners(): Promise<void> {
    const sure = this.#members.filter((member) => this.#isSure(member))
      .map((member) => ({ member, lease: member.belief!, revision: member.belief!.revision }));
    const held = await this.#history.now();
    for (const { member, lease, revision } of sure) {
      // Only where it was so before and after the reading.
      if (!this.#isSure(member) || member.belief !== lease || lease.revision !== revision) continue;
      const { owner } = held.get(lease.key) ?? {};
      if (owner !== member.address) {
        throw new Error(`${member.address} is sure of ${lease.key}, which ${owner} has`);
      }
    }
    for (const [at, one] of this.#members.entries()) {
      for (const other of this.#members.slice(at + 1)) {
        if (!this.#isSure(one) || !this.#isSure(other) || !collide(one.belief!, other.belief!)) {
          continue;
        }
        throw new Error(
          `${one.address} is sure of ${one.belief!.key}, ${other.address} of ${other.belief!.key}`,
        );
      }
    }
  }

  /** Waits until everyone who runs has a lease, in etcd as well, and knows all others. */
  async settle(): Promise<void> {
    for (const member of this.#members) member.mend();
    await waitFor(async () => {
      const held = await this.#history.now();
      const running = this.#members.filter(({ runs }) => runs);
      for (const { belief, address } of running) {
        const { owner } = held.get(belief?.key ?? "") ?? {};
        if (owner !== address) throw new Error(`${address} has ${belief?.key}, ${owner} in etcd`);
      }
      for (const { belief, peers, address } of running) {
        // Those of a config with larger subnets are none to who has smaller ones.
        const length = ({ subnet, ipv6Subnet }: Subnets) => (subnet ?? ipv6Subnet)!.length % 8;
        // What an operator left where no node lives any more is nobody's.
        const there = [...held.values()].filter(({ owner, subnets }) =>
          owner !== null && length(subnets) >= length(belief!)
        );
        const known = new Set([...peers.keys(), belief!.key]);
        const unknown = there.filter(({ key }) => !known.delete(key));
        if (unknown.length + known.size > 0) {
          const whose = unknown.map(({ key, owner }) => `${key} of ${owner}`).join();
          throw new Error(`${address} misses [${whose}] and has [${[...known]}] too many`);
        }
      }
      return true;
    }, { limitMs: CALM, what: "calm", intervalMs: 100 });
    this.#history.assertSound();
    await this.assertOwners();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map((member) => member[Symbol.asyncDispose]()));
    this.#operator[Symbol.dispose]();
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
