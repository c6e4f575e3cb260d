/**
 * Addresses that a node reaches outside of the overlay: those of its own interface, its router, etcd.
 * No lease of another node may take packets to them, and the node keeps the subnet that it picks clear
 * of them. They matter where the hosts' addresses lie in the overlay's network.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { Cidr, parseIp, tryParseIp } from "../base/cidr.ts";

/** What a node's public interface knows. */
export interface HostAddresses {
  /** Its addresses with their prefix lengths. */
  own: readonly { ip: string; prefixLength: number }[];
  /** Routers that its packets leave by. */
  routers: readonly string[];
}

/** Milliseconds in which the names of etcd's hosts must be known; without, they are left out. */
const LOOKUP_LIMIT = 1_000;

/** See the module. */
export class Underlay {
  readonly #own = new Set<string>();
  /** Subnets that the node is connected to. */
  readonly links: Cidr[] = [];
  /** Addresses, and what they are. */
  readonly #reserved: { ip: string; what: string }[] = [];

  constructor({ own, routers }: HostAddresses, etcd: readonly string[] = []) {
    for (const { ip, prefixLength } of own) {
      this.#own.add(ip);
      this.links.push(Cidr.containing(ip, prefixLength));
      this.#reserved.push({ ip, what: `an address of this node, ${ip}` });
    }
    for (const ip of routers) this.#reserved.push({ ip, what: `this node's router, ${ip}` });
    for (const ip of etcd) this.#reserved.push({ ip, what: `the address of etcd, ${ip}` });
  }

  /** What a peer's subnet would take from this node; undefined: nothing. */
  taken(subnet: Cidr): string | undefined {
    return this.#reserved.find(({ ip }) => subnet.containsIp(ip))?.what;
  }

  /** Why no peer can have this public address; undefined: one can. */
  unusable(ip: string): string | undefined {
    if (this.#own.has(ip)) return `is an address of this node`;
    const { family, value } = parseIp(ip);
    const link = family === 4
      ? this.links.find((link) =>
        link.length < 31 && (link.last === value || link.base === value) && link.family === family
      )
      : undefined;
    return link && `is ${link.last === value ? "the broadcast" : "the first"} address of ${link}`;
  }

  /** What a subnet to be picked had better not overlap, if there are others. */
  get avoided(): Cidr[] {
    const hosts = this.#reserved.map(({ ip }) => Cidr.containing(ip, ip.includes(":") ? 128 : 32));
    return [...this.links, ...hosts];
  }
}

/** The addresses of etcd's endpoints, `http://HOST:PORT`, as far as they are known soon. */
export async function endpointAddresses(endpoints: readonly string[]): Promise<string[]> {
  const found = endpoints.map(async (endpoint) => {
    const host = URL.parse(endpoint)?.hostname.replace(/^\[|\]$/g, "") ?? "";
    if (tryParseIp(host)) return [host];
    const addresses = await lookup(host, { all: true });
    return addresses.map(({ address }) => address).filter((ip) => tryParseIp(ip) !== undefined);
  });
  const limit = Promise.withResolvers<string[]>();
  const timer = setTimeout(() => limit.resolve([]), LOOKUP_LIMIT);
  const known = await Promise.all(
    found.map((one) => Promise.race([one.catch(() => []), limit.promise])),
  );
  clearTimeout(timer);
  return [...new Set(known.flat())];
}
