/**
 * The one door for peers' leases: what comes through is right, and nothing behind it checks again.
 *
 * A peer's lease must
 * - lie in the network, in each family that is on, and have a subnet in one of them at least;
 * - have a subnet of the config's length or a part of one (a longer prefix). A larger one is refused,
 *   since it would take the packets of several nodes;
 * - overlap neither ours nor an older lease (by the revision that created it);
 * - carry, for each of these subnets, a public address of its family that is unicast, not loopback
 *   and not ours.
 *
 * @module
 */
import { collide } from "./allocate.ts";
import { type Cidr, isLoopback, isUnicast, parseIp } from "./cidr.ts";
import type { FamilyConfig, NetworkConfig } from "./config.ts";
import type { Lease } from "./types.ts";

/** A lease as it came from the store, or why it could not be read. */
export interface Candidate {
  key: string;
  /** Revision that created the key; the smaller is the older. */
  created: number;
  /** Revision of the last write. */
  revision: string;
  lease: Lease | null;
  /** Why there is no lease; empty where there is. */
  problem: string;
}

/** A stretch of a network: a number for IPv4, a bigint for IPv6, which are never equal as map keys. */
type Slot = number | bigint;

/** A candidate and its place among the others. */
interface Entry {
  candidate: Candidate;
  /** Why it is refused by itself, whatever else there is; empty where it is not. */
  fault: string;
  /** The stretches of the networks, one subnet long each, in which it lies: none for a faulty one. */
  slots: Slot[];
  accepted: boolean;
}

/** Told of each refused lease, once for each reason. */
export type Refused = (key: string, reason: string) => void;

/**
 * All peers in the store, and which of them are valid. A change costs what it touches, not the size
 * of the table: as a valid subnet is no larger than the config's length, all that may overlap it is
 * in the same slot.
 */
export class PeerTable {
  readonly #network: NetworkConfig;
  readonly #own: Lease;
  readonly #refused: Refused;
  readonly #entries = new Map<string, Entry>();
  readonly #bySlot = new Map<Slot, Entry[]>();
  /** Reasons that were told, by key. */
  readonly #told = new Map<string, string>();
  readonly #accepted = new Map<string, Lease>();

  constructor(network: NetworkConfig, own: Lease, refused: Refused) {
    this.#network = network;
    this.#own = own;
    this.#refused = refused;
  }

  /** The valid peers by key; a copy. */
  peers(): Map<string, Lease> {
    return new Map(this.#accepted);
  }

  /**
   * Takes `candidates` for all there is. What did not change keeps its lease object.
   *
   * @returns whether the valid peers are others than before
   */
  replace(candidates: Iterable<Candidate>): boolean {
    const gone = new Set(this.#entries.keys());
    let changed = false;
    for (const candidate of candidates) {
      gone.delete(candidate.key);
      changed = this.set(candidate) || changed;
    }
    for (const key of gone) changed = this.delete(key) || changed;
    return changed;
  }

  /**
   * Adds or replaces a lease.
   *
   * @returns whether the valid peers are others than before
   */
  set(candidate: Candidate): boolean {
    const { key } = candidate;
    if (key === this.#own.key) return false;
    const former = this.#entries.get(key);
    if (former && isSame(former.candidate, candidate)) {
      former.candidate.revision = candidate.revision;
      return false;
    }
    const touched = former ? this.#take(former) : [];
    const fault = candidate.lease ? this.#fault(candidate.lease) : candidate.problem;
    const slots = fault === "" && candidate.lease ? this.#slots(candidate.lease) : [];
    const entry: Entry = { candidate, fault, slots, accepted: false };
    this.#entries.set(key, entry);
    for (const slot of slots) {
      const there = this.#bySlot.get(slot);
      this.#bySlot.set(slot, there ? [...there, entry] : [entry]);
      if (there) touched.push(...there);
    }
    if (touched.length === 0) return this.#judge(entry, fault) || former?.accepted === true;
    return this.#settle([...touched, entry]) || former?.accepted === true;
  }

  /** Removes a lease. @returns whether the valid peers are others than before */
  delete(key: string): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    const touched = this.#take(entry);
    this.#told.delete(key);
    return this.#settle(touched) || entry.accepted;
  }

  /** Takes an entry out. @returns those in its slots */
  #take(entry: Entry): Entry[] {
    const { candidate: { key }, slots } = entry;
    const touched: Entry[] = [];
    this.#entries.delete(key);
    this.#accepted.delete(key);
    for (const slot of slots) {
      const others = this.#bySlot.get(slot)?.filter((other) => other !== entry) ?? [];
      if (others.length > 0) this.#bySlot.set(slot, others);
      else this.#bySlot.delete(slot);
      touched.push(...others);
    }
    return touched;
  }

  /** Judges entries anew together with all that they may overlap, the oldest first. */
  #settle(entries: Entry[]): boolean {
    const touched = new Set(entries);
    // A set's loop also visits what is added on the way: neighbours of neighbours.
    for (const entry of touched) {
      for (const slot of entry.slots) {
        for (const other of this.#bySlot.get(slot) ?? []) touched.add(other);
      }
    }
    const group = [...touched].sort((a, b) =>
      a.candidate.created - b.candidate.created || (a.candidate.key < b.candidate.key ? -1 : 1)
    );
    const accepted: Entry[] = [];
    let changed = false;
    for (const entry of group) {
      const { lease } = entry.candidate;
      const older = lease && entry.fault === "" &&
        accepted.find((one) => one.candidate.lease && collide(one.candidate.lease, lease));
      const reason = older ? `it overlaps ${older.candidate.key}, which is older` : entry.fault;
      changed = this.#judge(entry, reason) || changed;
      if (entry.accepted) accepted.push(entry);
    }
    return changed;
  }

  /** Accepts an entry, or refuses it for a reason. @returns whether that is new */
  #judge(entry: Entry, reason: string): boolean {
    const { candidate: { key, lease }, accepted } = entry;
    entry.accepted = reason === "" && lease !== null;
    if (reason === "" && lease !== null) {
      this.#accepted.set(key, lease);
      this.#told.delete(key);
    } else {
      this.#accepted.delete(key);
      this.#tell(key, reason);
    }
    return entry.accepted !== accepted;
  }

  #tell(key: string, reason: string): void {
    if (this.#told.get(key) === reason) return;
    this.#told.set(key, reason);
    this.#refused(key, reason);
  }

  /** What is wrong with a lease by itself. */
  #fault(lease: Lease): string {
    const { ipv4, ipv6 } = this.#network;
    const { subnet, ipv6Subnet, attrs } = lease;
    const halves = [
      { family: ipv4, subnet, ip: attrs.publicIP, ours: this.#own.attrs.publicIP },
      { family: ipv6, subnet: ipv6Subnet, ip: attrs.publicIPv6, ours: this.#own.attrs.publicIPv6 },
    ];
    let subnets = 0;
    for (const { family, subnet, ip, ours } of halves) {
      if (family === null || subnet === null) continue;
      subnets++;
      const fault = subnetFault(family, subnet) || addressFault(subnet, ip, ours);
      if (fault !== "") return fault;
    }
    if (subnets === 0) return "it has no subnet of the network's address family";
    return collide(lease, this.#own) ? `it overlaps ours, ${this.#own.key}` : "";
  }

  #slots({ subnet, ipv6Subnet }: Lease): Slot[] {
    const { ipv4, ipv6 } = this.#network;
    const slots: Slot[] = [];
    if (ipv4 && subnet) slots.push(Number(subnet.base >> BigInt(32 - ipv4.subnetLength)));
    if (ipv6 && ipv6Subnet) slots.push(ipv6Subnet.base >> BigInt(128 - ipv6.subnetLength));
    return slots;
  }
}

/** Whether a write left a lease as it was, as Go flannel's renewals do. */
function isSame(one: Candidate, other: Candidate): boolean {
  if (one.created !== other.created || one.problem !== other.problem) return false;
  return one.revision === other.revision ||
    JSON.stringify(one.lease?.attrs) === JSON.stringify(other.lease?.attrs);
}

function subnetFault({ network, subnetLength }: FamilyConfig, subnet: Cidr): string {
  if (!network.contains(subnet)) return `${subnet} is not in the network ${network}`;
  if (subnet.length < subnetLength) {
    return `${subnet} is larger than the network's subnets, which are /${subnetLength}`;
  }
  return "";
}

function addressFault(subnet: Cidr, ip: string | null, ours: string | null): string {
  if (ip === null) return `it has the subnet ${subnet} and no public address for it`;
  if (ip === ours) return `its public address ${ip} is ours`;
  const parsed = parseIp(ip);
  if (isLoopback(parsed)) return `its public address ${ip} is a loopback address`;
  return isUnicast(parsed) ? "" : `its public address ${ip} is not unicast`;
}
