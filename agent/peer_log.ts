/**
 * Lines about peers that appear, change, leave or become reachable.
 *
 * Peers are compared with those that were logged last, once a second at most: a burst of changes costs
 * no more than one, and a flood of them neither fills the log nor holds up forwarding. Lines beyond a
 * budget are counted instead, in one line a minute.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { describe, publicAddress } from "../subnet/lease_codec.ts";
import { shorten } from "../base/json.ts";
import { Budget } from "../base/reports.ts";
import type { Lease, LeaseAttrs } from "../subnet/types.ts";

const log = getLogger(["flanneld", "peers"]);

/** Lines at once, and for each second beyond that. */
const BURST = 100;
const PER_SECOND = 0.1;
/** Milliseconds between two comparisons. */
const PAUSE = 1_000;
/** Milliseconds between two lines about what was left out. */
const SUMMARY = 60_000;
/** Keys that are remembered until their leases are among the peers. */
const MOST_COMING = 1_000;
/** Characters of a value that a peer announces, most of which are shorter. */
const LONGEST_VALUE = 64;

/** What happened to a peer. */
type Happening = "appeared" | "changed" | "left" | "became reachable";

/** What is carried: the peers, and the keys of those among them that are not. */
interface Peers {
  leases: ReadonlyMap<string, Lease>;
  skipped: ReadonlySet<string>;
}

/** See the module. */
export class PeerLog {
  #logged: Peers = { leases: new Map(), skipped: new Set() };
  #now: Peers = this.#logged;
  /** Keys that could not be used since the last comparison: invalid leases, or skipped peers. */
  #unusable = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last = -Infinity;
  readonly #budget = new Budget(BURST, PER_SECOND);
  readonly #leftOut = new Map<Happening, number>();
  #summary: ReturnType<typeof setTimeout> | undefined;
  #lastSummary = -Infinity;

  /** Takes the peers as they are in the kernel now. Returns at once. */
  note(leases: ReadonlyMap<string, Lease>, skipped: ReadonlySet<string>): void {
    this.#now = { leases, skipped };
    for (const key of skipped) this.#unusable.add(key);
    this.#schedule();
  }

  /** These keys hold valid leases now, and did not before; told before {@linkcode note}. */
  mended(keys: Iterable<string>): void {
    for (const key of keys) this.#unusable.add(key);
  }

  /** Writes what waits. */
  close(): void {
    clearTimeout(this.#timer);
    this.#compare();
    this.#summarize();
  }

  #schedule(): void {
    const wait = Math.max(0, this.#last + PAUSE - performance.now());
    this.#timer ??= setTimeout(() => this.#compare(), wait);
  }

  #compare(): void {
    this.#timer = undefined;
    this.#last = performance.now();
    const [before, now] = [this.#logged, this.#now];
    this.#logged = now;
    if (before !== now) {
      this.#compareLeases(before, now);
      this.#forget(now);
    }
    if (this.#leftOut.size === 0) return;
    const wait = this.#lastSummary + SUMMARY - performance.now();
    if (wait <= 0) this.#summarize();
    else this.#summary ??= setTimeout(() => this.#summarize(), wait);
  }

  /** Leaves those that are skipped still, and those whose leases are about to come. */
  #forget({ leases, skipped }: Peers): void {
    const coming = [...this.#unusable].filter((key) => !leases.has(key));
    this.#unusable = new Set([...skipped, ...coming.slice(-MOST_COMING)]);
  }

  #compareLeases(before: Peers, now: Peers): void {
    for (const [key, lease] of before.leases) {
      if (!now.leases.has(key)) this.#line(lease, "left");
    }
    for (const [key, lease] of now.leases) {
      // Why it is skipped has a line of its own.
      if (now.skipped.has(key)) continue;
      const was = before.leases.get(key);
      if (this.#unusable.has(key)) {
        this.#line(lease, "became reachable");
      } else if (was === undefined) this.#line(lease, "appeared");
      else if (was !== lease) this.#changed(was, lease);
    }
  }

  #changed(was: Lease, lease: Lease): void {
    const changes = changesOf(was.attrs, lease.attrs);
    if (changes !== "") this.#line(lease, "changed", changes);
  }

  #line(lease: Lease, happening: Happening, changes?: string): void {
    if (!this.#budget.take()) {
      this.#leftOut.set(happening, (this.#leftOut.get(happening) ?? 0) + 1);
      return;
    }
    const what = happening === "became reachable" ? "is now reachable" : happening;
    log.info("Peer {peer} ({ip}) {what}{more}", {
      peer: describe(lease) || lease.key,
      ip: publicAddress(lease.attrs),
      what,
      more: changes === undefined ? detailOf(lease, happening) : `: ${changes}`,
    });
  }

  #summarize(): void {
    clearTimeout(this.#summary);
    this.#summary = undefined;
    if (this.#leftOut.size === 0) return;
    this.#lastSummary = performance.now();
    const counts = [...this.#leftOut].map(([happening, count]) => `${count} ${happening}`);
    this.#leftOut.clear();
    log.info("And more peers: {counts}; run 'flanneld peers' to list all", {
      counts: counts.join(", "),
    });
  }
}

/** For level 1 and above: what else a peer announces. */
function detailOf({ attrs, key, revision }: Lease, happening: Happening): string {
  if (happening === "left" || !log.isEnabledFor("debug")) return "";
  const announced = [...membersOf(attrs)]
    .filter(([name]) => name !== "public address")
    .map(([name, value]) => `${name} ${value}`);
  return `: ${[...announced, `lease ${key}`, `revision ${revision}`].join(", ")}`;
}

/** What is different: `public address from 172.31.16.86 to 172.31.17.99, VTEP MAC from … to …`. */
function changesOf(was: LeaseAttrs, is: LeaseAttrs): string {
  const [before, after] = [membersOf(was), membersOf(is)];
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].flatMap((name) => {
    const [from, to] = [before.get(name) ?? "none", after.get(name) ?? "none"];
    return from === to ? [] : [`${name} from ${from} to ${to}`];
  }).join(", ");
}

/** What a peer announces, by the names that the log has for it. */
function membersOf(attrs: LeaseAttrs): Map<string, string> {
  const members = new Map([["backend", shorten(attrs.backendType || "udp", LONGEST_VALUE)]]);
  if (attrs.publicIP !== null) members.set("public address", attrs.publicIP);
  if (attrs.publicIPv6 !== null) {
    members.set(
      attrs.publicIP === null ? "public address" : "public IPv6 address",
      attrs.publicIPv6,
    );
  }
  addData(members, "", attrs.backendData);
  addData(members, "IPv6 ", attrs.backendV6Data);
  return members;
}

function addData(members: Map<string, string>, prefix: string, data: unknown): void {
  if (typeof data !== "object" || data === null) return;
  for (const [name, value] of Object.entries(data).slice(0, 8)) {
    const label = name === "VtepMAC" ? "VTEP MAC" : shorten(name, LONGEST_VALUE);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    members.set(prefix + label, shorten(text, LONGEST_VALUE));
  }
}
