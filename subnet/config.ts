/**
 * The network config, the JSON text under `PREFIX/config`: parsed into exact types, with flannel's
 * keys, defaults and rules, or refused with a reason that names the key.
 *
 * @module
 */
import { Cidr, type Family, isLoopback, isMulticast, tryParseIp } from "../base/cidr.ts";
import { isKnownKey, type UnknownKey, unknownKey, unknownKeyText } from "./config_keys.ts";
import { type ParsedMember, parseMembers, quote } from "../base/json.ts";

/** A network config that cannot be used; the message names key, value and what it must be. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

/** One address family's half of the config. */
export interface FamilyConfig {
  /** All subnets lie in it. */
  network: Cidr;
  /** Prefix length of a node's subnet. */
  subnetLength: number;
  /** The first subnet that may be leased. */
  min: Cidr;
  /** The last one. */
  max: Cidr;
}

/** The backend that all nodes use. */
export interface BackendConfig {
  /** `vxlan`, `host-gw`, … in small letters, however the config has them. */
  type: string;
  /** The members of the `Backend` object besides `Type`, keys as written. */
  options: Record<string, unknown>;
}

/** A valid network config with its defaults filled in. At least one family is on. */
export interface NetworkConfig {
  /** Null where `EnableIPv4` is false. */
  ipv4: FamilyConfig | null;
  /** Null where `EnableIPv6` is not true. */
  ipv6: FamilyConfig | null;
  /** Traffic rules by nftables instead of iptables. */
  enableNFTables: boolean;
  backend: BackendConfig;
  /** Keys that nothing in flannel reads: misspelled ones, mostly. They have no effect. */
  unknown: UnknownKey[];
  /** What is doubtful and was passed over, for the log; unknown keys are not among it. */
  warnings: string[];
}

/** What differs between the families. */
interface FamilyRules {
  family: Family;
  /** Where the keys begin: `IPv6` for IPv6. */
  prefix: "" | "IPv6";
  example: string;
  /** A network up to this length is divided into subnets of `defaultLength`. */
  roomy: number;
  defaultLength: number;
  /** The longest network that has room for four subnets of `longestSubnet`. */
  longestNetwork: number;
  longestSubnet: number;
}

const IPV4: FamilyRules = {
  family: 4,
  prefix: "",
  example: "10.1.0.0/16",
  roomy: 22,
  defaultLength: 24,
  longestNetwork: 28,
  longestSubnet: 30,
};

const IPV6: FamilyRules = {
  family: 6,
  prefix: "IPv6",
  example: "fd00:1::/48",
  roomy: 62,
  defaultLength: 64,
  longestNetwork: 124,
  longestSubnet: 126,
};

/** Characters of the largest config that is read; one with all keys takes some 500. */
const LARGEST_CONFIG = 65_536;

/** Unknown keys that are warned of by name. */
const MOST_UNKNOWN = 10;

/** What a member of the config may be, by the name that errors use. */
type Expected = "a string" | "a whole number" | "true or false" | "an object";

/**
 * The members of the config object. Keys match without regard to case, and of several that match the
 * last one counts, as in Go's decoder; null is as good as absent there.
 */
class Members {
  readonly #values = new Map<string, unknown>();
  /** Text of the last `Backend` that is an object. */
  readonly #backend: string;
  readonly unknown: string[];

  constructor(members: ParsedMember[]) {
    const unknown = new Set<string>();
    let backend = "{}";
    for (const { key, value, text } of members) {
      if (!isKnownKey(key, false)) unknown.add(key);
      else if (value !== null) this.#values.set(key.toLowerCase(), value);
      if (key.toLowerCase() === "backend" && value !== null) backend = text;
    }
    this.#backend = backend;
    this.unknown = [...unknown];
  }

  has(key: string): boolean {
    return this.#values.has(key.toLowerCase());
  }

  text(key: string): string | undefined {
    const value = this.#values.get(key.toLowerCase());
    if (value === undefined || typeof value === "string") return value;
    throw wrongType(key, value, "a string");
  }

  /** Zero counts as absent, as in Go. */
  length(key: string): number | undefined {
    const value = this.#values.get(key.toLowerCase());
    if (value === undefined || value === 0) return undefined;
    if (typeof value === "number" && Number.isInteger(value) && value > 0) return value;
    throw wrongType(key, value, "a whole number");
  }

  flag(key: string, absent: boolean): boolean {
    const value = this.#values.get(key.toLowerCase()) ?? absent;
    if (typeof value === "boolean") return value;
    throw wrongType(key, value, "true or false");
  }

  /** The members of `Backend`; none where it is absent. */
  backend(): ParsedMember[] {
    const value = this.#values.get("backend") ?? {};
    if (typeof value !== "object" || Array.isArray(value)) {
      throw wrongType("Backend", value, "an object");
    }
    return parseMembers(this.#backend);
  }
}

function wrongType(key: string, value: unknown, expected: Expected): ConfigError {
  return new ConfigError(`${key}: ${quote(value)} is not ${expected}`);
}

/**
 * Parses and checks a network config.
 *
 * @throws {ConfigError}
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  const members = new Members(parseText(text));
  const ipv4 = members.flag("EnableIPv4", true);
  const ipv6 = members.flag("EnableIPv6", false);
  if (!ipv4 && !ipv6) {
    throw new ConfigError(
      "EnableIPv4: false needs EnableIPv6: true, or the network has no address family",
    );
  }
  const { backend, unknown } = backendConfig(members.backend());
  return {
    ipv4: ipv4 ? familyConfig(members, IPV4) : null,
    ipv6: ipv6 ? familyConfig(members, IPV6) : null,
    enableNFTables: members.flag("EnableNFTables", false),
    backend,
    unknown: [...members.unknown.map((key) => unknownKey(key, false)), ...unknown],
    warnings: warnings(members, ipv4, ipv6),
  };
}

function parseText(text: string): ParsedMember[] {
  if (text.length > LARGEST_CONFIG) {
    throw new ConfigError(
      `the network config has ${text.length} characters, more than ${LARGEST_CONFIG}`,
    );
  }
  try {
    return parseMembers(text);
  } catch (error) {
    throw new ConfigError(`the network config ${(error as Error).message}`);
  }
}

/** Unknown keys as lines, of which a config may have any number: some by name, the rest counted. */
export function unknownKeyLines({ unknown }: Pick<NetworkConfig, "unknown">): string[] {
  const lines = unknown.slice(0, MOST_UNKNOWN).map(unknownKeyText);
  const more = unknown.length - MOST_UNKNOWN;
  return more > 0 ? [...lines, `${more} more keys are unknown`] : lines;
}

function warnings(members: Members, ipv4: boolean, ipv6: boolean): string[] {
  const found: string[] = [];
  if (!ipv6 && members.has("IPv6Network")) {
    found.push("IPv6Network has no effect without EnableIPv6: true");
  }
  if (!ipv4 && members.has("Network")) found.push("Network has no effect with EnableIPv4: false");
  if (!members.has("Backend")) {
    found.push(
      "Backend is not set, so flanneld uses vxlan (Go flannel would use udp): set it if both run in this cluster",
    );
  }
  return found;
}

function backendConfig(
  members: ParsedMember[],
): { backend: BackendConfig; unknown: UnknownKey[] } {
  let type = "vxlan";
  const options = new Map<string, [key: string, value: unknown]>();
  const unknown = new Set<string>();
  for (const { key, value } of members) {
    const name = key.toLowerCase();
    if (!isKnownKey(key, true)) unknown.add(key);
    if (name !== "type") {
      // Null leaves what a former one of the same key has set.
      if (value !== null || !options.has(name)) options.set(name, [key, value]);
    } else if (typeof value === "string" && value !== "") {
      type = value.toLowerCase();
    } else if (value !== null) {
      throw new ConfigError(
        `Backend.Type: ${quote(value)} is not a backend name like "vxlan"`,
      );
    }
  }
  return {
    backend: { type, options: Object.fromEntries(options.values()) },
    unknown: [...unknown].map((key) => unknownKey(key, true)),
  };
}

function familyConfig(members: Members, rules: FamilyRules): FamilyConfig {
  const network = networkOf(members, rules);
  const subnetLength = subnetLengthOf(members, network, rules);
  const first = Cidr.of(network.family, network.base, subnetLength);
  const last = Cidr.of(network.family, network.last, subnetLength);
  const min = boundary(members, `${rules.prefix}SubnetMin`, network, subnetLength) ?? first.next();
  const max = boundary(members, `${rules.prefix}SubnetMax`, network, subnetLength) ?? last;
  if (min.base > max.base) {
    throw new ConfigError(
      `${rules.prefix}SubnetMin: ${min.address} is above ${rules.prefix}SubnetMax, ${max.address}`,
    );
  }
  return { network, subnetLength, min, max };
}

function networkOf(members: Members, { family, prefix, example }: FamilyRules): Cidr {
  const key = `${prefix}Network`;
  const text = members.text(key);
  if (text === undefined) {
    const misspelled = members.unknown.map((key) => unknownKey(key, false))
      .find(({ advice }) => advice === `did you mean ${key}?`);
    throw new ConfigError(
      `${key} is missing: ` +
        (misspelled ? unknownKeyText(misspelled) : `set it to a network like "${example}"`),
    );
  }
  let network: Cidr | undefined;
  try {
    network = Cidr.parse(text);
  } catch {
    // Told below, with the key.
  }
  if (network?.family !== family) {
    throw new ConfigError(
      `${key}: ${quote(text)} is not a network like "${example}"`,
    );
  }
  const base = { family, value: network.base };
  if (network.length === 0 || isMulticast(base) || isLoopback(base)) {
    throw new ConfigError(
      `${key}: ${text} is not a range of host addresses; use a network like "${example}"`,
    );
  }
  return network;
}

function subnetLengthOf(members: Members, network: Cidr, rules: FamilyRules): number {
  const { prefix, roomy, defaultLength, longestNetwork, longestSubnet } = rules;
  const key = `${prefix}SubnetLen`;
  const length = members.length(key);
  // Whatever the length: four subnets of four addresses each do not fit.
  if (network.length > longestNetwork) {
    throw new ConfigError(
      `${prefix}Network: ${network} is too small, it must be a /${longestNetwork} or larger`,
    );
  }
  if (length === undefined) {
    return network.length <= roomy ? defaultLength : network.length + 2;
  }
  if (length > longestSubnet) {
    throw new ConfigError(
      `${key}: ${length} is above ${longestSubnet}, a subnet needs four addresses`,
    );
  }
  if (length < network.length + 2) {
    throw new ConfigError(
      `${key}: ${length} leaves no room for four subnets in ${network}, ` +
        `it must be ${network.length + 2} or more`,
    );
  }
  return length;
}

/** The subnet that a `SubnetMin` or `SubnetMax` names; undefined where absent or unspecified. */
function boundary(
  members: Members,
  key: string,
  network: Cidr,
  subnetLength: number,
): Cidr | undefined {
  const text = members.text(key);
  if (text === undefined) return undefined;
  const ip = tryParseIp(text);
  if (ip === undefined || ip.family !== network.family) {
    throw new ConfigError(
      `${key}: ${quote(text)} is not an IPv${network.family} address`,
    );
  }
  if (ip.value === 0n) return undefined;
  if (!network.containsIp(ip)) {
    throw new ConfigError(`${key}: ${text} is not in the network ${network}`);
  }
  const subnet = Cidr.of(ip.family, ip.value, subnetLength);
  if (subnet.base !== ip.value) {
    throw new ConfigError(
      `${key}: ${text} is not the first address of a /${subnetLength} subnet; the nearest below is ` +
        subnet.address,
    );
  }
  return subnet;
}
