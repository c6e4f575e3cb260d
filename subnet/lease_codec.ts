/**
 * Leases as they are stored: keys and values, byte for byte as flannel writes them, and a reader that
 * refuses with a reason whatever it does not understand.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { Cidr, formatIp, parseIp, tryParseIp } from "../base/cidr.ts";
import { parseJsonObject, quote, shorten } from "../base/json.ts";
import type { Lease, LeaseAttrs } from "./types.ts";

/** A stored lease that cannot be used; the message says why. */
export class LeaseError extends Error {
  override name = "LeaseError";
}

/** Bytes of the largest value that is read. Those of flannel's backends take some 300. */
export const LARGEST_VALUE = 16_384;

/** Characters of the longest data of a backend that are kept, and of its name: flannel's have some 100. */
const LONGEST_DATA = 1_024;
const LONGEST_TYPE = 64;

/** Bytes of a key beyond which it is named by its beginning; both subnets in full take 68. */
const LONGEST_KEY = 128;
/** Characters of the beginning. */
const KEY_BEGINNING = 64;

const UTF8 = new TextDecoder();

/** What flannel writes for "no IPv4 subnet" on an IPv6-only node. */
const NO_IPV4 = "0.0.0.0-0";

/** The subnets of a lease. */
export type Subnets = Pick<Lease, "subnet" | "ipv6Subnet">;

/**
 * The key of a lease below `PREFIX/subnets/`: `10.1.34.0-24`, `10.1.34.0-24&fd00:1::-64`, and
 * `0.0.0.0-0&fd00:1::-64` without IPv4. Go flannel finds no IPv6 subnet in a key that has `-` in
 * place of `:`, so that this form is the one that a mixed cluster understands.
 */
export function leaseKey({ subnet, ipv6Subnet }: Subnets): string {
  const ipv4 = subnet ? `${subnet.address}-${subnet.length}` : NO_IPV4;
  return ipv6Subnet ? `${ipv4}&${ipv6Subnet.address}-${ipv6Subnet.length}` : ipv4;
}

/**
 * A stored key as it is named: the key itself where it is printable ASCII, as all keys of leases are.
 * Other bytes are escaped (`\\xff`), so that different keys have different names and none garbles a
 * terminal; a key that is too long for any lease is named by its beginning and its hash.
 */
export function keyName(key: Uint8Array): string {
  let name = "";
  for (const byte of key.subarray(0, LONGEST_KEY)) name += keyByte(byte);
  if (key.length <= LONGEST_KEY) return name;
  const hash = createHash("sha256").update(key).digest("hex").slice(0, 16);
  return `${shorten(name, KEY_BEGINNING)} (${key.length} bytes, sha256 ${hash})`;
}

function keyByte(byte: number): string {
  const isPrintable = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
  return isPrintable ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
}

/**
 * Beginnings of all keys that name an IPv4 subnet which overlaps `subnet`, and of a few that do not:
 * - those which hold it, one for each prefix length up to its own: `10.1.34.0-24`, `10.1.34.0-23`, …
 * - those which lie in it, by the octets that they have in common: `10.1.34.`
 */
export function overlappingKeys({ base, length }: Cidr): string[] {
  const holding = Array.from({ length: length + 1 }, (_, shorter) => {
    return `${Cidr.of(4, base, shorter).address}-${shorter}`;
  });
  return [...holding, ...octetsOf(base, length)];
}

/** Beginnings of the texts of the addresses in a subnet, 16 at most, which may take in others. */
function octetsOf(base: bigint, length: number): string[] {
  const octets = formatIp(4, base).split(".").map(Number);
  const whole = Math.min(length >> 3, 3);
  const begin = octets.slice(0, whole).map((octet) => `${octet}.`).join("");
  const values = 2 ** (8 - length % 8);
  if (whole === 3 || values > 16) return [begin];
  return Array.from({ length: values }, (_, at) => `${begin}${octets[whole] + at}.`);
}

/**
 * The subnets that a key names. IPv6 is also read with `-` in place of each `:`
 * (`fd00-1---64`).
 *
 * @throws {LeaseError}
 */
export function parseLeaseKey(key: string): Subnets {
  const [ipv4, ipv6, ...more] = key.split("&");
  if (more.length > 0) throw new LeaseError("its key has more than two subnets");
  const subnet = ipv4 === NO_IPV4 && ipv6 !== undefined ? null : subnetOf(ipv4, false);
  return { subnet, ipv6Subnet: ipv6 === undefined ? null : subnetOf(ipv6, true) };
}

function subnetOf(text: string, ipv6: boolean): Cidr {
  const dash = text.lastIndexOf("-");
  const address = text.slice(0, Math.max(dash, 0));
  const ip = tryParseIp(ipv6 ? address.replaceAll("-", ":") : address);
  const cidr = ip && Cidr.ofText(ip, text.slice(dash + 1));
  if (ip === undefined || cidr === undefined || (ip.family === 6) !== ipv6) {
    throw new LeaseError(`its key is not a subnet like ${ipv6 ? "fd00:1::-64" : "10.1.34.0-24"}`);
  }
  if (ip.value !== cidr.base) {
    throw new LeaseError(`its key has host bits, the subnet would be ${cidr}`);
  }
  return cidr;
}

/** The value of a lease; the order of members, and what is left out when empty, as Go writes it. */
export function encodeAttrs(attrs: LeaseAttrs): string {
  const text = JSON.stringify({
    PublicIP: canonical(attrs.publicIP) ?? "0.0.0.0",
    PublicIPv6: canonical(attrs.publicIPv6),
    BackendType: attrs.backendType || undefined,
    BackendData: attrs.backendData ?? undefined,
    BackendV6Data: attrs.backendV6Data ?? undefined,
  });
  // Go's encoder escapes these inside texts; elsewhere they do not occur.
  return text.replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function canonical(ip: string | null): string | null {
  if (ip === null) return null;
  const { family, value } = parseIp(ip);
  return formatIp(family, value);
}

/**
 * Reads a lease's value. Missing, null and unknown members are accepted, names without regard to
 * case, as by Go's decoder.
 *
 * @throws {LeaseError}
 */
export function parseAttrs(text: string): LeaseAttrs {
  const attrs: LeaseAttrs = { publicIP: null, publicIPv6: null, backendType: "" };
  const isLong = text.length > LONGEST_DATA;
  for (const [name, value] of Object.entries(parseObject(text))) {
    if (value === null) continue;
    // All leases are in memory at times, and anyone may have written them.
    if (isLong && /^backend(v6)?data$/i.test(name)) refuseLong(name, value);
    switch (name.toLowerCase()) {
      case "publicip":
        attrs.publicIP = address(name, value, 4);
        break;
      case "publicipv6":
        attrs.publicIPv6 = address(name, value, 6);
        break;
      case "backendtype":
        if (typeof value !== "string" || value.length > LONGEST_TYPE) {
          throw new LeaseError(`its ${name} is not a string of up to ${LONGEST_TYPE} characters`);
        }
        attrs.backendType = value;
        break;
      case "backenddata":
        attrs.backendData = value;
        break;
      case "backendv6data":
        attrs.backendV6Data = value;
        break;
    }
  }
  return attrs;
}

/** @throws {LeaseError} */
function refuseLong(name: string, value: unknown): void {
  const { length } = JSON.stringify(value);
  if (length > LONGEST_DATA) {
    throw new LeaseError(`its ${name} has ${length} characters, more than ${LONGEST_DATA}`);
  }
}

function parseObject(text: string): object {
  try {
    return parseJsonObject(text);
  } catch (error) {
    throw new LeaseError(`its value ${(error as Error).message}`);
  }
}

/** An address in canonical text; null for the unspecified one, which Go writes for none. */
function address(name: string, value: unknown, family: 4 | 6): string | null {
  const ip = typeof value === "string" ? tryParseIp(value) : undefined;
  if (ip === undefined || ip.family !== family) {
    throw new LeaseError(`its ${name}, ${quote(value, 60)}, is not an IPv${family} address`);
  }
  if (ip.value === 0n) return null;
  // IPv4 that could be read has one form only.
  return family === 4 ? value as string : formatIp(family, ip.value);
}

/**
 * Reads a lease's value as it is stored.
 *
 * @throws {LeaseError}
 */
export function decodeAttrs(value: Uint8Array): LeaseAttrs {
  if (value.length > LARGEST_VALUE) {
    throw new LeaseError(`its value has ${value.length} bytes, more than ${LARGEST_VALUE}`);
  }
  return parseAttrs(UTF8.decode(value));
}

/** `10.1.34.0/24`, with the IPv6 subnet behind it. */
export function describe({ subnet, ipv6Subnet }: Subnets): string {
  return [subnet, ipv6Subnet].filter((cidr) => cidr !== null).join(" ");
}

/** The node's address as the log names it. */
export function publicAddress(
  { publicIP, publicIPv6 }: Pick<LeaseAttrs, "publicIP" | "publicIPv6">,
): string {
  return publicIP ?? publicIPv6 ?? "none";
}
