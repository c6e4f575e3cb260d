/**
 * The kernel's routes to the peers' public addresses, for the backends that follow them: each is
 * looked up once, and all again when routes have changed.
 *
 * @module
 */
import type { RouteLookup } from "../dataplane/state.ts";
import type { Lease } from "../subnet/types.ts";

/** Looks routes up; the data plane, or a stand-in in a unit test. */
export type LookUp = (ips: readonly string[]) => (RouteLookup | undefined)[];

/** See the module. */
export class PeerRoutes {
  readonly #lookUp: LookUp;
  #known = new Map<string, RouteLookup | undefined>();

  constructor(lookUp: LookUp) {
    this.#lookUp = lookUp;
  }

  /** The route that was looked up for a peer's public address. */
  readonly to = (ip: string): RouteLookup | undefined => this.#known.get(ip);

  /** Looks up what is not known yet. */
  learn(peers: Iterable<Lease>): void {
    const ips = addressesOf(peers).filter((ip) => !this.#known.has(ip));
    if (ips.length === 0) return;
    for (const [at, route] of this.#lookUp(ips).entries()) this.#known.set(ips[at], route);
  }

  /** Looks all up again, and forgets what is of no peer any more. @returns whether one is another */
  refresh(peers: Iterable<Lease>): boolean {
    const before = this.#known;
    this.#known = new Map();
    this.learn(peers);
    return [...this.#known].some(([ip, route]) => !isSame(route, before.get(ip)));
  }
}

function addressesOf(peers: Iterable<Lease>): string[] {
  const ips = new Set<string>();
  for (const { attrs: { publicIP, publicIPv6 } } of peers) {
    if (publicIP !== null) ips.add(publicIP);
    if (publicIPv6 !== null) ips.add(publicIPv6);
  }
  return [...ips];
}

function isSame(one: RouteLookup | undefined, other: RouteLookup | undefined): boolean {
  return one?.dev === other?.dev && one?.via === other?.via && one?.resolves === other?.resolves;
}
