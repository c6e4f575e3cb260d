/**
 * The one door for peers' leases: what comes through is right, and nothing behind it checks again.
 *
 * A peer's lease must
 * - lie in the network, in each family that is on, and have a subnet in one of them at least;
 * - have a subnet of the config's length or a part of one (a longer prefix). A larger one is refused,
 *   since it would take the packets of several nodes;
 * - carry, for each of these subnets, a public address of its family that is unicast, not loopback
 *   and not ours;
 * - overlap neither ours nor an older lease (by the revision that created it), whether or not that one
 *   overlaps a third;
 * - keep public addresses and subnets apart, which meet where the hosts' own addresses lie in the
 *   network: packets to an address in a subnet go to that subnet's node. Its addresses lie neither in
 *   its own subnets nor in ours nor in an older lease's, and its subnets hold neither our address nor
 *   that of an older lease. Where our own address does not lie in the network, hosts' addresses are not
 *   expected there: a lease whose address lies in another's subnet is refused, whichever is older, or
 *   else one lease written in advance would keep a node from its subnet;
 * - leave alone what our packets must reach outside of the overlay (`underlay.ts`): our other addresses,
 *   our router, etcd. Nor can its public address be one of those of ours, or a broadcast address;
 * - be one of the {@linkcode CROWD} oldest in its stretch of the network, one subnet long. More are
 *   there only if someone floods the store, and each would cost as much as all of them.
 *
 * So what a lease is depends on the older ones alone, and it is the same on all nodes.
 *
 * @module
 */
import { collide } from "./allocate.ts";
import type { FamilyConfig, NetworkConfig } from "./config.ts";
import { addressIn, holdsAddress, holdsHost, leaseFault } from "./lease_fault.ts";
import type { Candidate, Lease } from "./types.ts";
import type { Underlay } from "./underlay.ts";

/** Leases that are looked at in one stretch of the network. */
export const CROWD = 64;
/** Public addresses that are, the oldest leases'; of hosts whose link is a /24 all. */
const ADDRESSES = 512;

/** A stretch of a network: a number for IPv4, a bigint for IPv6, which are never equal as map keys. */
type Slot = number | bigint;

/** A candidate and its place among the others. */
interface Entry {
  /** Without the lease where that is faulty, whatever its size was. */
  candidate: Candidate;
  /** The stretches of the networks, one subnet long each, in which it lies: none for a faulty one. */
  slots: Slot[];
  /** Those in which its public addresses lie, where they lie in the networks. */
  addressSlots: Slot[];
  accepted: boolean;
  /** The reason that was told last. */
  told: string;
  /** What it takes from our own lease, if it is the older of the two. */
  contends?: Contender;
}

/** What is in a stretch, the oldest first. */
interface Stretch {
  leases: Entry[];
  addresses: Entry[];
}

/** Told of each refused lease, once for each reason; undefined where it is valid after that. */
export type Refused = (key: string, reason: string | undefined) => void;

/** What of a node the table has to know besides its lease. */
export interface NodeView {
  /** Revision that created our own lease's key, as it is now. */
  created(): number;
  /** What packets of this node must reach outside of the overlay. */
  underlay?: Underlay;
  /** What `lease` announces that only one lease can have, and ours does: `our VTEP MAC …`. */
  clash?(lease: Lease): string | undefined;
  /** Called when a lease comes that stands against ours: see {@linkcode PeerTable.superior}. */
  contested?(): void;
}

/** A lease that stands against ours, and what it takes from it. */
export interface Contender {
  key: string;
  /** Where its node says that it is. */
  address: string;
  /** `announces our VTEP MAC …`. */
  what: string;
}

/**
 * All peers in the store, and which of them are valid. A change costs what it touches, not the size
 * of the table: as a valid subnet is no larger than the config's length, all that may overlap it is
 * in the same slot.
 */
export class PeerTable {
  readonly #network: NetworkConfig;
  readonly #own: Lease;
  readonly #refused: Refused;
  readonly #view: NodeView;
  /** Whether hosts' addresses lie in the network, as ours does. */
  readonly #hasHosts: boolean;
  readonly #entries = new Map<string, Entry>();
  readonly #bySlot = new Map<Slot, Stretch>();
  /** In the order of age unless {@linkcode #disordered}. */
  #accepted = new Map<string, Lease>();
  /** Keys of valid peers that are gone from the store, perhaps not for good. */
  readonly #held = new Set<string>();
  /** Those that stand against our lease; hardly ever any. */
  readonly #contenders = new Set<Entry>();
  #youngest = 0;
  #disordered = false;

  constructor(
    network: NetworkConfig,
    own: Lease,
    refused: Refused,
    view: NodeView = { created: () => Infinity },
  ) {
    this.#network = network;
    this.#own = own;
    this.#refused = refused;
    this.#view = view;
    this.#hasHosts = holdsHost(network, own.attrs);
  }

  /**
   * An older lease for which the other nodes refuse ours, or a part of what it announces. By our own
   * rules it may be a peer, or refused for our lease's sake.
   */
  superior(): Contender | undefined {
    const own = { key: this.#own.key, created: this.#view.created() };
    for (const { candidate, contends } of this.#contenders) {
      if (contends && compareAge(candidate, own) < 0) return contends;
    }
    return undefined;
  }

  /** The valid peers by key, the oldest first; a copy. */
  peers(): Map<string, Lease> {
    if (this.#disordered) {
      const created = (key: string) => this.#entries.get(key)?.candidate.created ?? 0;
      const byAge = [...this.#accepted].sort(([one], [other]) => created(one) - created(other));
      this.#accepted = new Map(byAge);
      this.#disordered = false;
    }
    return new Map(this.#accepted);
  }

  /**
   * Takes `candidates` for all there is. What did not change keeps its lease object.
   *
   * @param hold {@linkcode hold} what is gone rather than remove it
   * @returns whether the valid peers are others than before
   */
  replace(candidates: Iterable<Candidate>, hold = false): boolean {
    const gone = new Set(this.#entries.keys());
    let changed = false;
    // The oldest first, so that each is judged once.
    for (const candidate of [...candidates].sort(compareAge)) {
      gone.delete(candidate.key);
      changed = this.set(candidate) || changed;
    }
    for (const key of gone) changed = (hold ? this.hold(key) : this.delete(key)) || changed;
    return changed;
  }

  /**
   * Keeps a valid peer whose lease is gone, if it may have ended by itself, until it is back, someone
   * else has its subnet, or {@linkcode release}; removes any other.
   *
   * @returns whether the valid peers are others than before
   */
  hold(key: string): boolean {
    const entry = this.#entries.get(key);
    const ends = entry?.accepted && entry.candidate.lease?.expiration !== Infinity;
    if (!ends || this.#isClaimed(entry)) return this.delete(key);
    this.#held.add(key);
    return false;
  }

  /** Keys of the peers that are held. */
  get held(): string[] {
    return [...this.#held];
  }

  /** Removes the peers that are held. @returns whether the valid peers are others than before */
  release(): boolean {
    return this.held.map((key) => this.delete(key)).includes(true);
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
    const wasHeld = this.#held.delete(key);
    if (former && !wasHeld && isSame(former.candidate, candidate)) {
      former.candidate.revision = candidate.revision;
      return false;
    }
    const entry = this.#entry(candidate, former);
    const gone = this.#heldBeside(entry).map((held) => this.delete(held));
    const touched = new Set<Entry>();
    if (former) this.#take(former, touched);
    if (former?.accepted && former.candidate.created !== candidate.created) this.#disordered = true;
    this.#entries.set(key, entry);
    if (former) this.#contenders.delete(former);
    this.#put(entry, touched);
    if (entry.contends) {
      this.#contenders.add(entry);
      this.#view.contested?.();
    }
    return this.#judge([entry, ...touched]) || former?.accepted === true || gone.includes(true);
  }

  /** Whether a younger lease in the store has a part of an accepted one, which kept it out. */
  #isClaimed(entry: Entry): boolean {
    const { slots, candidate: { lease } } = entry;
    return slots.flatMap((slot) => this.#bySlot.get(slot)?.leases.slice(0, CROWD) ?? [])
      .some((other) =>
        other !== entry && lease !== null && other.candidate.lease !== null &&
        collide(other.candidate.lease, lease)
      );
  }

  /** Keys of held peers that a lease in the store has a part of. */
  #heldBeside({ slots, candidate: { lease } }: Entry): string[] {
    if (this.#held.size === 0 || lease === null) return [];
    // As valid peers they are not beyond the crowd.
    return slots.flatMap((slot) => this.#bySlot.get(slot)?.leases.slice(0, CROWD) ?? [])
      .map(({ candidate }) => candidate)
      .filter((other) =>
        this.#held.has(other.key) && other.lease !== null && collide(other.lease, lease)
      )
      .map(({ key }) => key);
  }

  /** Removes a lease. @returns whether the valid peers are others than before */
  delete(key: string): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    const touched = new Set<Entry>();
    this.#take(entry, touched);
    this.#entries.delete(key);
    this.#contenders.delete(entry);
    this.#accepted.delete(key);
    this.#held.delete(key);
    return this.#judge(touched) || entry.accepted;
  }

  #entry(candidate: Candidate, former: Entry | undefined): Entry {
    const { key, created, revision, lease } = candidate;
    const fault = lease ? leaseFault(this.#network, lease) : candidate.problem;
    const problem = fault || (lease ? this.#faultBesideOurs(lease) : "");
    const contends = lease && fault === "" ? this.#contends(lease) : undefined;
    const told = former?.told ?? "";
    if (problem !== "" || lease === null) {
      const faulty = { key, created, revision, lease: null, problem };
      return { candidate: faulty, slots: [], addressSlots: [], accepted: false, told, contends };
    }
    const { ipv4, ipv6 } = this.#network;
    const { subnet, ipv6Subnet, attrs: { publicIP, publicIPv6 } } = lease;
    const slots = [slotOf(ipv4, subnet?.base), slotOf(ipv6, ipv6Subnet?.base)];
    const addressSlots = [
      slotOf(ipv4, addressIn(ipv4, publicIP)),
      slotOf(ipv6, addressIn(ipv6, publicIPv6)),
    ];
    return {
      // Not the caller's object: the revision is written to.
      candidate: { key, created, revision, lease, problem: "" },
      slots: slots.filter((slot) => slot !== undefined),
      addressSlots: addressSlots.filter((slot) => slot !== undefined),
      accepted: false,
      told,
      contends,
    };
  }

  /** What a lease, valid by itself, takes from ours where it is the older one. */
  #contends(lease: Lease): Contender | undefined {
    const { key, attrs: { publicIP, publicIPv6 } } = lease;
    const clash = this.#view.clash?.(lease);
    const what = collide(lease, this.#own)
      ? "overlaps this node's subnet"
      : this.#hasHosts && holdsAddress(this.#own, lease)
      ? "has its public address in this node's subnet"
      : clash && `announces ${clash}`;
    return what ? { key, address: publicIP ?? publicIPv6 ?? "none", what } : undefined;
  }

  /** Takes an entry out of its stretches, and gathers whom that may let in. */
  #take(entry: Entry, touched: Set<Entry>): void {
    for (const [slot, stretch, kind] of this.#stretches(entry)) {
      stretch[kind].splice(positionOf(stretch[kind], entry), 1);
      gather(stretch, kind, touched);
      if (stretch.leases.length + stretch.addresses.length === 0) this.#bySlot.delete(slot);
    }
    // It may have met itself in the next stretch.
    touched.delete(entry);
  }

  /** Puts an entry into its stretches, and gathers whom it may stand in the way of. */
  #put(entry: Entry, touched: Set<Entry>): void {
    for (const [slot, stretch, kind] of this.#stretches(entry)) {
      this.#bySlot.set(slot, stretch);
      const at = positionOf(stretch[kind], entry);
      stretch[kind].splice(at, 0, entry);
      // It touches younger ones alone, and none where there are too many older ones.
      if (at < (kind === "leases" ? CROWD : ADDRESSES)) gather(stretch, kind, touched);
    }
    touched.delete(entry);
  }

  *#stretches(entry: Entry): Generator<[Slot, Stretch, keyof Stretch]> {
    const empty = () => ({ leases: [], addresses: [] });
    for (const slot of entry.slots) yield [slot, this.#bySlot.get(slot) ?? empty(), "leases"];
    for (const slot of entry.addressSlots) {
      yield [slot, this.#bySlot.get(slot) ?? empty(), "addresses"];
    }
  }

  /** Accepts entries, or refuses them for a reason. @returns whether that is new for any */
  #judge(entries: Iterable<Entry>): boolean {
    let changed = false;
    for (const entry of entries) {
      const { accepted, candidate: { key, created, lease, problem } } = entry;
      const reason = problem || this.#conflict(entry);
      entry.accepted = reason === "" && lease !== null;
      if (entry.accepted && lease !== null) {
        if (!this.#accepted.has(key) && created < this.#youngest) this.#disordered = true;
        this.#youngest = Math.max(this.#youngest, created);
        this.#accepted.set(key, lease);
      } else {
        this.#accepted.delete(key);
      }
      this.#tell(entry, reason);
      changed ||= entry.accepted !== accepted;
    }
    return changed;
  }

  #tell(entry: Entry, reason: string): void {
    if (entry.told === reason) return;
    entry.told = reason;
    this.#refused(entry.candidate.key, reason || undefined);
  }

  /** What is wrong with a lease beside ours. */
  #faultBesideOurs(lease: Lease): string {
    const { attrs: { publicIP, publicIPv6 }, key } = this.#own;
    const { attrs } = lease;
    const { ipv4, ipv6 } = this.#network;
    for (
      const [family, subnet, ip, ours] of [
        [ipv4, lease.subnet, attrs.publicIP, publicIP],
        [ipv6, lease.ipv6Subnet, attrs.publicIPv6, publicIPv6],
      ] as const
    ) {
      if (family === null || subnet === null || ip === null) continue;
      if (ip === ours) return `its public address ${ip} is this node's`;
      const { underlay } = this.#view;
      const unusable = underlay?.unusable(ip);
      if (unusable) return `its public address ${ip} ${unusable}`;
      const taken = underlay?.taken(subnet);
      if (taken) return `it contains ${taken}`;
    }
    if (collide(lease, this.#own)) return `it overlaps this node's, ${key}`;
    if (holdsAddress(lease, this.#own)) return "it contains this node's public address";
    return holdsAddress(this.#own, lease) ? "its public address lies in this node's subnet" : "";
  }

  /** The older lease that stands in an entry's way; empty where none does. */
  #conflict(entry: Entry): string {
    for (const slot of entry.slots) {
      const stretch = this.#bySlot.get(slot);
      if (stretch === undefined) continue;
      if (positionOf(stretch.leases, entry) >= CROWD) {
        return `${CROWD} older leases already share this part of the network`;
      }
      const other = older(stretch.leases.slice(0, CROWD), entry, (lease, it) => collide(lease, it));
      if (other) return `it overlaps ${other}, which is older`;
      const host = older(
        stretch.addresses.slice(0, ADDRESSES),
        entry,
        (lease, it) => holdsAddress(it, lease),
      );
      if (host && this.#hasHosts) {
        return `it contains the public address of ${host}, which is older`;
      }
    }
    for (const slot of entry.addressSlots) {
      const { leases = [], addresses = [] } = this.#bySlot.get(slot) ?? {};
      if (leases.length === 0 || positionOf(addresses, entry) >= ADDRESSES) continue;
      const crowd = leases.slice(0, CROWD);
      const holder = older(crowd, entry, (lease, it) => holdsAddress(lease, it));
      if (holder) return `its public address lies in ${holder}, which is older`;
      const younger = this.#hasHosts
        ? undefined
        : crowd.find(({ candidate: { lease: other } }) =>
          other && entry.candidate.lease && holdsAddress(other, entry.candidate.lease)
        );
      if (younger) {
        return `its public address lies in ${younger.candidate.key}`;
      }
    }
    return "";
  }
}

/** Key of an older entry of a list for which `stands` holds. */
function older(
  list: Entry[],
  entry: Entry,
  stands: (older: Lease, lease: Lease) => boolean,
): string | undefined {
  const { lease } = entry.candidate;
  for (const other of list) {
    if (compareAge(other.candidate, entry.candidate) >= 0) return undefined;
    if (lease && other.candidate.lease && stands(other.candidate.lease, lease)) {
      return other.candidate.key;
    }
  }
  return undefined;
}

/** Those in a stretch whom a change of its leases, or of the addresses in it, may concern. */
function gather({ leases, addresses }: Stretch, kind: keyof Stretch, touched: Set<Entry>): void {
  // One more: who is next in where one goes, and who is out where one comes.
  for (const other of leases.slice(0, CROWD + 1)) touched.add(other);
  if (kind === "addresses" && leases.length === 0) return;
  for (const other of addresses.slice(0, ADDRESSES + 1)) touched.add(other);
}

/** What tells which of two leases is the older. */
type Age = Pick<Candidate, "key" | "created">;

/** The older first; keys decide between what one transaction created. */
function compareAge(one: Age, other: Age): number {
  return one.created - other.created || (one.key < other.key ? -1 : one.key > other.key ? 1 : 0);
}

/** Where an entry is in a list by age, or would be. */
function positionOf(list: Entry[], { candidate }: Entry): number {
  let [from, to] = [0, list.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (compareAge(list[middle].candidate, candidate) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}

function slotOf(family: FamilyConfig | null, address: bigint | undefined): Slot | undefined {
  if (family === null || address === undefined) return undefined;
  const { network, subnetLength } = family;
  const slot = address >> BigInt((network.family === 4 ? 32 : 128) - subnetLength);
  return network.family === 4 ? Number(slot) : slot;
}

/** Whether a write left a lease as it was, as Go flannel's renewals do. */
function isSame(one: Candidate, other: Candidate): boolean {
  if (one.created !== other.created || one.problem !== other.problem) return false;
  return one.revision === other.revision ||
    JSON.stringify(one.lease?.attrs) === JSON.stringify(other.lease?.attrs);
}
