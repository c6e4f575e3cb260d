/**
 * Hostile data for a store: keys, values and network configs that no agent may fall over, made from
 * a seed, so that a run can be had again. Among them are valid ones, since what is hostile about a
 * lease may be no more than whose subnet, address or MAC it claims.
 *
 * @module
 */

/** A key below `subnets/` and its value, as bytes. */
export interface HostileLease {
  key: Uint8Array;
  value: Uint8Array;
}

/** Someone whose traffic is to be taken. */
export interface Victim {
  /** `10.1.34.0-24`, with an IPv6 subnet behind it or not. */
  key: string;
  publicIP: string;
  mac: string;
}

/** A source of randomness with the choices that generators make. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number in [0, 1): mulberry32. */
  readonly next = (): number => {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ mixed >>> 15, mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) / 0x1_0000_0000;
  };

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }

  chance(share: number): boolean {
    return this.next() < share;
  }
}

/** Third octets that hostile leases in the network have; the rest is left for good ones. */
const ROOM = 250;

const BYTES = new TextEncoder();

/** Names that mean something to a runtime. */
const NAMES = [
  ...["__proto__", "constructor", "prototype", "toString", "valueOf", "hasOwnProperty", "toJSON"],
  ...["then", "length", "__defineGetter__", "isPrototypeOf", "", "0", "-1", "NaN"],
];

const ADDRESSES = [
  ...["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250"],
  ...["240.0.0.1", "255.255.255.255", "169.254.169.254", "10.1.0.1", "10.1.255.255"],
  ...["300.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "0x7f.0.0.1", "2130706433", "1.2.3.4/24"],
  ...["1.2.3.4 ", " 1.2.3.4", "1.2.3.4\u0000", "١.٢.٣.٤", "1.2.3.-4", "1e1.2.3.4", "", "localhost"],
  ...["::", "::1", "ff02::1", "fe80::1", "fe80::1%eth0", "::ffff:192.168.77.12", "::192.168.77.12"],
  ...["2001:db8::1", "2001:DB8::0001", "fd00:1::1", "1:2:3:4:5:6:7:8:9", ":::", "::ffff:7f00:1"],
];

const MACS = [
  ...["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01", "33:33:00:00:00:01"],
  ...["no mac", "", "02:00:00:00:00", "02:00:00:00:00:00:00", "02-00-00-00-00-01"],
  ...["02:00:00:00:00:0g", "02:00:00:00:00:01\n", "0200.0000.0001", "2:0:0:0:0:1"],
];

/** Makes hostile leases against victims, of which the first is the node under test. */
export class HostileLeases {
  readonly #random: Random;
  readonly #victims: readonly Victim[];

  constructor(random: Random, victims: readonly Victim[]) {
    this.#random = random;
    this.#victims = victims;
  }

  next(): HostileLease {
    const r = this.#random;
    const key = r.chance(0.2) ? this.#brokenKey() : this.#key();
    const value = r.chance(0.3) ? this.#brokenValue() : BYTES.encode(this.#value());
    return { key: key.length > 0 ? key : BYTES.encode("-"), value };
  }

  /** A key that reads as subnets, or nearly. */
  #key(): Uint8Array {
    const r = this.#random;
    const text = r.pick([
      () => `10.1.${r.below(ROOM)}.0-24`,
      () => `10.1.${r.below(ROOM)}.${r.below(8) * 32}-27`,
      () => `10.1.${r.below(ROOM)}.${r.below(256)}-32`,
      () => `${r.below(256)}.${r.below(256)}.${r.below(256)}.0-24`,
      () => `${r.pick([10, 0, 192, 127, 224, 255])}.0.0.0-${r.below(12)}`,
      () => `10.${r.pick([0, 1, 2])}.${r.below(ROOM)}.0-${r.below(140)}`,
      () => `10.1.${r.below(16) * 16}.0-${r.pick([16, 17, 18, 19, 20, 22, 23])}`,
      () => `10.1.${r.below(ROOM)}.${r.below(256)}-24`,
      () => this.#aroundVictim(),
      () => `10.1.${r.below(ROOM)}.0-24&${this.#ipv6()}`,
      () => `0.0.0.0-0&${this.#ipv6()}`,
    ])();
    return BYTES.encode(text);
  }

  #ipv6(): string {
    const r = this.#random;
    const hex = () => r.below(0x10000).toString(16);
    return r.pick([
      `fd00:1:0:${hex()}::-64`,
      `FD00:1:0:${hex()}::-64`,
      `fd00-1-0-${hex()}---64`,
      `fd00:1::${hex()}-128`,
      `fd00:1:0:${r.below(4)}::${hex()}:${hex()}-128`,
      `${hex()}::-16`,
      "::ffff:10.1.0.0-112",
      "::-0",
      "ff00::-8",
    ]);
  }

  /** The subnet of a victim, a part of it, or what holds it; in other words, too. */
  #aroundVictim(): string {
    const r = this.#random;
    const [subnet] = r.pick(this.#victims).key.split("&");
    const [address] = subnet.split("-");
    return r.pick([
      `${address}-25`,
      `${address.replace(/0$/, "128")}-25`,
      `${address}-30`,
      `${address}-23`,
      `${address}-16`,
      `${address}-8`,
      `${address}-024`,
      `0${address}-24`,
      `${address}/24`,
      `${subnet} `,
      `${subnet}\u0000`,
      `${subnet}/`,
      `${subnet}&`,
      `${subnet}&&`,
      `${subnet}&${this.#ipv6()}`,
    ]);
  }

  #brokenKey(): Uint8Array {
    const r = this.#random;
    const any = (length: number) => Uint8Array.from({ length }, () => r.below(256));
    return r.pick([
      () => BYTES.encode(r.pick(NAMES)),
      () => BYTES.encode(`${r.pick(NAMES)}/${r.pick(NAMES)}`),
      () => BYTES.encode(r.pick(["../../config", "../config", "config", "%31%30.1.0.0-24", "*"])),
      () => any(1 + r.below(40)),
      () => Uint8Array.of(0xff, 0xfe, ...BYTES.encode(`10.1.${r.below(ROOM)}.0-24`)),
      () => Uint8Array.of(...BYTES.encode(`10.1.${r.below(ROOM)}.0-24`), 0xc0, 0x80),
      () => BYTES.encode(`10.1.${r.below(ROOM)}.0-24\u001b[31m\u202e\r\nI0000 forged] line`),
      () => BYTES.encode(`１０.1.${r.below(256)}.0-24`),
      () => BYTES.encode("9".repeat(1 + r.below(2_000))),
      () => BYTES.encode("10.1.0.0-24&".repeat(1 + r.below(100))),
      () => BYTES.encode(`10.1.0.0-${"9".repeat(1 + r.below(400))}`),
      () => BYTES.encode(`-${r.below(99)}`),
    ])();
  }

  #address(): string {
    const r = this.#random;
    if (r.chance(0.5)) return `192.168.77.${100 + r.below(150)}`;
    return r.chance(0.4) ? r.pick(this.#victims).publicIP : r.pick(ADDRESSES);
  }

  #mac(): string {
    const r = this.#random;
    if (r.chance(0.3)) return r.pick(MACS);
    if (r.chance(0.4)) {
      const { mac } = r.pick(this.#victims);
      return r.chance(0.5) ? mac : mac.toUpperCase();
    }
    const hex = () => r.below(256).toString(16).padStart(2, "0");
    return `02:${hex()}:${hex()}:${hex()}:${hex()}:${hex()}`;
  }

  /** A value that is JSON: right, or right but for one or two members. */
  #value(): string {
    const r = this.#random;
    const members: [string, string][] = [
      ["PublicIP", JSON.stringify(this.#address())],
      ["PublicIPv6", r.pick(["null", "null", JSON.stringify(r.pick(ADDRESSES))])],
      ["BackendType", r.pick(['"vxlan"', '"vxlan"', '"vxlan"', '"host-gw"', '""', this.#json(2)])],
      ["BackendData", this.#backendData()],
    ];
    for (let spoilt = r.below(4); spoilt > 1; spoilt--) {
      const at = r.below(members.length);
      r.pick([
        () => members[at][1] = this.#json(3),
        () => members.splice(at, 1),
        () => members.push([members[at][0], this.#json(1)]),
        () => members.push([members[at][0].toLowerCase(), members[at][1]]),
        () => members.push([r.pick(NAMES), this.#json(2)]),
        () => members.push(["__proto__", `{"PublicIP":"192.168.77.99","polluted":true}`]),
      ])();
      if (members.length === 0) break;
    }
    return `{${members.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`;
  }

  #backendData(): string {
    const r = this.#random;
    if (r.chance(0.2)) return this.#json(3);
    const vni = r.chance(0.8) ? "1" : r.pick(["2", "-1", "1e999", "1.5", '"1"', "null", "[]"]);
    const more = r.chance(0.1) ? `,${JSON.stringify(r.pick(NAMES))}:${this.#json(2)}` : "";
    return `{"VNI":${vni},"VtepMAC":${JSON.stringify(this.#mac())}${more}}`;
  }

  /** Any JSON. */
  #json(depth: number): string {
    const r = this.#random;
    const simple = [
      "null",
      "true",
      "0",
      "-0",
      "1e308",
      "1e999",
      '""',
      '"x"',
      "[]",
      "{}",
      '"\\u0000"',
    ];
    if (depth === 0 || r.chance(0.4)) return r.pick(simple);
    return r.pick([
      () => `[${Array.from({ length: r.below(4) }, () => this.#json(depth - 1)).join(",")}]`,
      () => `{${JSON.stringify(r.pick(NAMES))}:${this.#json(depth - 1)}}`,
      () => JSON.stringify("x".repeat(r.below(3_000))),
      () => nested(r),
    ])();
  }

  #brokenValue(): Uint8Array {
    const r = this.#random;
    const text = this.#value();
    const any = (length: number) => Uint8Array.from({ length }, () => r.below(256));
    return r.pick([
      () => any(r.below(60)),
      () => BYTES.encode(text.slice(0, r.below(text.length))),
      () => BYTES.encode(text.replaceAll('"', r.pick(["'", "", "\u0000", "“"]))),
      () => BYTES.encode(`\ufeff${text}`),
      () => BYTES.encode(`${text}${text}`),
      () => joined(BYTES.encode(text.slice(0, -1)), Uint8Array.of(0xff, 0xc3, 0x28, 0x7d)),
      () =>
        BYTES.encode(r.pick(["null", "true", "7", '"text"', "[]", "", " ", "{}", "[[[[", "NaN"])),
      () => BYTES.encode(nested(r)),
      () => BYTES.encode(`{"PublicIP":${nested(r)}}`),
      () => BYTES.encode(`{"PublicIP":"${"9".repeat(r.below(20_000))}"}`),
    ])();
  }
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array {
  const all = new Uint8Array(one.length + other.length);
  all.set(one);
  all.set(other, one.length);
  return all;
}

/** Deep nesting, of kinds that `JSON.stringify` walks by calling itself, too. */
function nested(r: Random): string {
  const depth = r.pick([10, 31, 33, 200, r.chance(0.1) ? 7_000 : 40]);
  const [open, close] = r.pick([["[", "]"], ['{"1":', "}"], ['{"toJSON":', "}"], ['{"a":', "}"]]);
  return `${open.repeat(depth)}${r.pick(["0", "[]", "null"])}${close.repeat(depth)}`;
}

const CONFIG_KEYS = [
  ...["Network", "SubnetLen", "SubnetMin", "SubnetMax", "EnableIPv4", "EnableIPv6", "Backend"],
  ...["IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax", "EnableNFTables"],
];

/** A network config as text: sound, but for some members. */
export function hostileConfig(r: Random): string {
  const ipv6 = r.chance(0.3);
  const members = new Map<string, string>([
    ["Network", JSON.stringify(`10.${r.below(256)}.0.0/${8 + r.below(16)}`)],
    ["Backend", `{"Type":"${r.pick(["vxlan", "host-gw", "udp", "alloc"])}"}`],
  ]);
  if (ipv6) members.set("EnableIPv6", "true").set("IPv6Network", '"fd00:1::/48"');
  for (let spoilt = r.below(4); spoilt > 0; spoilt--) {
    const name = r.chance(0.9) ? r.pick(CONFIG_KEYS) : r.pick(NAMES);
    members.set(r.chance(0.9) ? name : name.toLowerCase(), configMember(r, name));
  }
  const text = `{${
    [...members].map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")
  }}`;
  if (r.chance(0.9)) return text;
  return r.pick([
    text.slice(0, r.below(text.length)),
    `${text},`,
    `\ufeff${text}`,
    text.replaceAll('"', "\u0000"),
    nested(r),
    `{"Backend":{"Type":${nested(r)}}}`,
    `{"Network":"${"1".repeat(r.below(100_000))}"}`,
    `{${Array.from({ length: 1 + r.below(500) }, (_, at) => `"k${at}":0`).join(",")}}`,
    "null",
    "",
  ]);
}

function configMember(r: Random, name: string): string {
  const network = () =>
    JSON.stringify(
      r.pick([
        `${r.pick(ADDRESSES)}/${r.below(140)}`,
        `10.1.${r.below(ROOM)}.0/${r.below(33)}`,
        `fd00:1::/${r.below(129)}`,
        `0.0.0.0/${r.below(4)}`,
      ]),
    );
  const any = () =>
    r.pick(["null", "true", "0", "-1", "1.5", "1e999", '"x"', "[]", "{}", nested(r), '"24"']);
  if (r.chance(0.3)) return any();
  if (/Network$/.test(name)) return network();
  if (/Len$/.test(name)) return String(r.below(140) - 3);
  if (/M(in|ax)$/.test(name)) {
    return JSON.stringify(r.pick([r.pick(ADDRESSES), `10.1.${r.below(ROOM)}.0`]));
  }
  if (name !== "Backend") return r.pick(["true", "false"]);
  const type = r.pick([
    '"vxlan"',
    '"udp"',
    '"host-gw"',
    '"alloc"',
    JSON.stringify(r.pick(NAMES)),
    any(),
  ]);
  const option = r.pick(["VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting", r.pick(NAMES)]);
  return `{"Type":${type},${JSON.stringify(option)}:${r.pick([any(), String(r.below(100_000))])}}`;
}
