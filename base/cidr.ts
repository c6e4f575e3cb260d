/**
 * IP addresses and subnets of both families: parsing that accepts nothing doubtful, canonical text,
 * and the arithmetic that leases need.
 *
 * @module
 */

/** Address family: 4 or 6. */
export type Family = 4 | 6;

/** An IP address: its family and its bits as an unsigned number in network order. */
export interface IpAddress {
  family: Family;
  value: bigint;
}

/** Bits of an address. */
const BITS = { 4: 32, 6: 128 } as const;

/** Longest text of an address: eight groups of IPv6, or six and an IPv4 address. */
const LONGEST_TEXT = 45;

/**
 * Parses an address. IPv4 is four decimal numbers without leading zeros; IPv6 is RFC 4291 text
 * without a zone. IPv4-mapped IPv6 (`::ffff:192.0.2.1`) is refused: it would name one host in two
 * ways.
 *
 * @throws {SyntaxError} quoting the input
 */
export function parseIp(text: string): IpAddress {
  const ip = tryParseIp(text);
  if (ip === undefined) throw new SyntaxError(`${quote(text)} is not an IP address`);
  return ip;
}

/** Like {@linkcode parseIp}, undefined for what is no address. */
export function tryParseIp(text: string): IpAddress | undefined {
  if (typeof text !== "string" || text.length > LONGEST_TEXT) return undefined;
  if (!text.includes(":")) {
    const value = parseIPv4(text);
    return value < 0 ? undefined : { family: 4, value: BigInt(value) };
  }
  const value = parseIPv6(text);
  return value === undefined ? undefined : { family: 6, value };
}

/** The address as a number, -1 where it is none. */
function parseIPv4(text: string): number {
  let value = 0;
  let octet = -1;
  let dots = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x2e) {
      if (octet < 0 || ++dots > 3) return -1;
      value = value * 256 + octet;
      octet = -1;
    } else if (code >= 0x30 && code <= 0x39) {
      if (octet === 0) return -1;
      octet = Math.max(octet, 0) * 10 + code - 0x30;
      if (octet > 255) return -1;
    } else {
      return -1;
    }
  }
  return dots === 3 && octet >= 0 ? value * 256 + octet : -1;
}

/** The address as a number, undefined where it is none. */
function parseIPv6(text: string): bigint | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = groupsOf(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? groupsOf(halves[1], true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  let value = 0n;
  for (const group of head) value = value << 16n | BigInt(group);
  value <<= BigInt(16 * missing);
  for (const group of tail) value = value << 16n | BigInt(group);
  return value >> 32n === 0xffffn ? undefined : value;
}

/** The 16-bit groups of a piece of IPv6 text; its last may be an IPv4 address where `atEnd`. */
function groupsOf(text: string, atEnd: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const pieces = text.split(":");
  for (const [index, piece] of pieces.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(piece)) {
      groups.push(parseInt(piece, 16));
    } else {
      const embedded = atEnd && index === pieces.length - 1 ? parseIPv4(piece) : -1;
      if (embedded < 0) return undefined;
      groups.push(Math.floor(embedded / 0x1_0000), embedded % 0x1_0000);
    }
  }
  return groups;
}

/** Canonical text: dotted decimal, RFC 5952 for IPv6. */
export function formatIp(family: Family, value: bigint): string {
  if (family === 4) {
    const bits = Number(value);
    return `${bits >>> 24}.${bits >>> 16 & 255}.${bits >>> 8 & 255}.${bits & 255}`;
  }
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number(value >> shift & 0xffffn));
  const zeros = longestZeros(groups);
  const hex = (of: number[]) => of.map((group) => group.toString(16)).join(":");
  if (zeros.length < 2) return hex(groups);
  return `${hex(groups.slice(0, zeros.start))}::${hex(groups.slice(zeros.start + zeros.length))}`;
}

/** The longest run of zero groups, the first of equals (RFC 5952 section 4.2.3). */
function longestZeros(groups: number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let index = 0; index <= groups.length; index++) {
    if (groups[index] === 0) continue;
    if (index - start > best.length) best = { start, length: index - start };
    start = index + 1;
  }
  return best;
}

function quote(text: unknown): string {
  const quoted = JSON.stringify(text) ?? String(text);
  return quoted.length > 80 ? `${quoted.slice(0, 80)}…"` : quoted;
}

/** A subnet in CIDR notation; immutable, without host bits. */
export class Cidr {
  readonly family: Family;
  /** Its first address as a number. */
  readonly base: bigint;
  /** Prefix length in bits. */
  readonly length: number;

  private constructor(family: Family, base: bigint, length: number) {
    this.family = family;
    this.base = base;
    this.length = length;
  }

  /**
   * Parses `10.1.34.0/24` or `fd00:1::/64`. Host bits are cleared, as Go's `net.ParseCIDR` does for
   * the network it gives.
   *
   * @throws {SyntaxError} quoting the input
   */
  static parse(text: string): Cidr {
    const slash = typeof text === "string" ? text.lastIndexOf("/") : -1;
    const ip = slash < 0 ? undefined : tryParseIp(text.slice(0, slash));
    const cidr = ip && Cidr.ofText(ip, text.slice(slash + 1));
    if (cidr === undefined) {
      throw new SyntaxError(`${quote(text)} is not a subnet like 10.1.0.0/16 or fd00:1::/48`);
    }
    return cidr;
  }

  /** The subnet with a prefix length in decimal digits in which `ip` lies; undefined for no such. */
  static ofText({ family, value }: IpAddress, digits: string): Cidr | undefined {
    const length = /^(0|[1-9]\d{0,2})$/.test(digits) ? Number(digits) : -1;
    return length < 0 || length > BITS[family] ? undefined : Cidr.of(family, value, length);
  }

  /** The subnet of `length` bits in which the address with these bits lies. */
  static of(family: Family, value: bigint, length: number): Cidr {
    const hostBits = BigInt(BITS[family] - length);
    return new Cidr(family, value >> hostBits << hostBits, length);
  }

  /**
   * The subnet of `length` bits in which `ip` lies.
   *
   * @throws {SyntaxError | RangeError} for no address, or a length that its family has not
   */
  static containing(ip: string, length: number): Cidr {
    const { family, value } = parseIp(ip);
    if (!Number.isInteger(length) || length < 0 || length > BITS[family]) {
      throw new RangeError(`${length} is not a prefix length of IPv${family}`);
    }
    return Cidr.of(family, value, length);
  }

  /** Text of its first address. */
  get address(): string {
    return formatIp(this.family, this.base);
  }

  /** How many addresses it has. */
  get size(): bigint {
    return 1n << BigInt(BITS[this.family] - this.length);
  }

  /** Its last address as a number. */
  get last(): bigint {
    return this.base + this.size - 1n;
  }

  toString(): string {
    return `${this.address}/${this.length}`;
  }

  toJSON(): string {
    return this.toString();
  }

  equals(other: Cidr): boolean {
    return this.family === other.family && this.base === other.base && this.length === other.length;
  }

  /** Whether `other` is this subnet or a part of it. */
  contains(other: Cidr): boolean {
    return this.family === other.family && this.length <= other.length &&
      this.#covers(other.base);
  }

  /** Whether an address lies in it; false for text that is none. */
  containsIp(ip: string | IpAddress): boolean {
    const parsed = typeof ip === "string" ? tryParseIp(ip) : ip;
    return parsed !== undefined && parsed.family === this.family && this.#covers(parsed.value);
  }

  /** Whether the two share an address. */
  overlaps(other: Cidr): boolean {
    return this.length <= other.length ? this.contains(other) : other.contains(this);
  }

  #covers(value: bigint): boolean {
    const hostBits = BigInt(BITS[this.family] - this.length);
    return value >> hostBits === this.base >> hostBits;
  }

  /**
   * The subnet of the same length that follows.
   *
   * @throws {RangeError} after the last one of the address space
   */
  next(): Cidr {
    const base = this.base + this.size;
    if (base >> BigInt(BITS[this.family]) !== 0n) {
      throw new RangeError(`${this} is the last subnet of its length`);
    }
    return new Cidr(this.family, base, this.length);
  }

  /**
   * Text of the n-th address, counted from 0, the base address.
   *
   * @throws {RangeError} outside the subnet
   */
  nth(n: number | bigint): string {
    const offset = BigInt(n);
    if (offset < 0n || offset >= this.size) throw new RangeError(`${this} has no address ${n}`);
    return formatIp(this.family, this.base + offset);
  }
}

/** `0.0.0.0` or `::`. */
export function isUnspecified({ value }: IpAddress): boolean {
  return value === 0n;
}

/** `127.0.0.0/8` (RFC 1122) or `::1`. */
export function isLoopback({ family, value }: IpAddress): boolean {
  return family === 4 ? value >> 24n === 127n : value === 1n;
}

/** `224.0.0.0/4` or `ff00::/8`. */
export function isMulticast({ family, value }: IpAddress): boolean {
  return family === 4 ? value >> 28n === 0xen : value >> 120n === 0xffn;
}

/** `255.255.255.255`. */
export function isBroadcast({ family, value }: IpAddress): boolean {
  return family === 4 && value === 0xffff_ffffn;
}

/** `169.254.0.0/16` (RFC 3927) or `fe80::/10`. */
export function isLinkLocal({ family, value }: IpAddress): boolean {
  return family === 4 ? value >> 16n === 0xa9fen : value >> 118n === 0x3fan;
}

/**
 * Whether one host can have the address: neither unspecified, nor of "this network" (`0.0.0.0/8`),
 * multicast, or reserved (`240.0.0.0/4`, broadcast with it). Loopback addresses are unicast.
 */
export function isUnicast(ip: IpAddress): boolean {
  if (isUnspecified(ip) || isMulticast(ip)) return false;
  return ip.family === 6 || (ip.value >> 24n !== 0n && ip.value >> 28n !== 0xfn);
}
