/**
 * `flanneld leases`: what is leased to whom.
 *
 * @module
 */
import { skippedLeases } from "./lease_notes.ts";
import { openStore } from "../subnet/registry.ts";
import { storeOptions } from "./agent_options.ts";
import type { Lease } from "../subnet/types.ts";
import type { Settings } from "./parse.ts";
import { table } from "./table.ts";
import { isOurs, thisNode, warnRefused } from "./this_node.ts";

/** A lease as `--json` prints it. The shape is stable: fields may be added, none go. */
export interface LeaseEntry {
  /** `10.1.34.0/24`; null on an IPv6-only node. */
  subnet: string | null;
  ipv6Subnet: string | null;
  publicIP: string | null;
  publicIPv6: string | null;
  /** `vxlan`; `udp` announces none, which is an empty text here. */
  backendType: string;
  /** What the backend announces, null where nothing. */
  backendData: unknown;
  backendV6Data: unknown;
  /** Whole seconds until the lease ends without renewal; null for a reservation. */
  expiresInSeconds: number | null;
  /** The lease is the one that this node remembers, or announces an address of this node. */
  thisNode: boolean;
  /** Why the agents skip it; null where they do not. */
  skipped: string | null;
}

/** The entry of a lease at `now`, in milliseconds since the epoch. */
export function leaseEntry(
  lease: Lease,
  isOurs: boolean,
  now: number,
  skipped: string | null = null,
): LeaseEntry {
  const { attrs, expiration } = lease;
  const seconds = expiration === null || expiration === Infinity
    ? null
    : Math.max(0, Math.round((expiration - now) / 1000));
  return {
    subnet: lease.subnet?.toString() ?? null,
    ipv6Subnet: lease.ipv6Subnet?.toString() ?? null,
    publicIP: attrs.publicIP,
    publicIPv6: attrs.publicIPv6,
    backendType: attrs.backendType,
    backendData: attrs.backendData ?? null,
    backendV6Data: attrs.backendV6Data ?? null,
    expiresInSeconds: seconds,
    thisNode: isOurs,
    skipped,
  };
}

/** The entries as a table; the columns of IPv6 only where a lease has any. */
export function leaseTable(entries: readonly LeaseEntry[]): string {
  const columns: [string, (entry: LeaseEntry) => string | null][] = [
    ["SUBNET", (entry) => entry.subnet],
    ["IPV6 SUBNET", (entry) => entry.ipv6Subnet],
    ["PUBLIC IP", (entry) => entry.publicIP],
    ["PUBLIC IPV6", (entry) => entry.publicIPv6],
    ["BACKEND", (entry) => entry.backendType || "udp"],
    ["VTEP MAC", (entry) => vtepMac(entry.backendData) ?? vtepMac(entry.backendV6Data)],
    ["EXPIRES IN", (entry) => duration(entry.expiresInSeconds)],
    ["", (entry) => entry.thisNode ? "this node" : ""],
    ["NOTE", (entry) => entry.skipped === null ? "" : `skipped: ${entry.skipped}`],
  ];
  const shown = columns.filter(([title, text]) =>
    !/IPV6|VTEP|NOTE|^$/.test(title) || entries.some((entry) => text(entry))
  );
  return table([
    shown.map(([title]) => title),
    ...entries.map((entry) => shown.map(([, text]) => text(entry) ?? "-")),
  ]);
}

function vtepMac(data: unknown): string | null {
  if (typeof data !== "object" || data === null || !("VtepMAC" in data)) return null;
  return typeof data.VtepMAC === "string" ? data.VtepMAC : null;
}

/** `23h59m58s`; `never` for a reservation. */
function duration(seconds: number | null): string {
  if (seconds === null) return "never";
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  const parts = [hours && `${hours}h`, (hours || minutes) && `${minutes}m`, `${seconds % 60}s`];
  return parts.filter(Boolean).join("");
}

/** Runs the command. Returns the exit status. */
export async function leases(settings: Settings, json: boolean): Promise<number> {
  const node = thisNode(settings);
  using store = await openStore(storeOptions(settings));
  const found = await store.leases(warnRefused, node.held);
  const { config, candidates } = await store.candidates();
  const skipped = skippedLeases(config, candidates);
  const now = Date.now();
  const entries = found.map((lease) =>
    leaseEntry(lease, isOurs(lease, node), now, skipped.get(lease.key))
  );
  console.log(json ? JSON.stringify(entries, null, 2) : leaseTable(entries));
  return 0;
}
