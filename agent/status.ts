/**
 * What the agent knows of itself: filled by its parts as they work, read by health checks and
 * metrics.
 *
 * @module
 */

import type { Traffic, TunnelCounters } from "../dataplane/state.ts";

/** The agent's state in numbers. Times are milliseconds since the epoch. */
export class Status {
  readonly started = Date.now();
  /** The subnet file is written and the first peers are programmed. */
  ready = false;
  /** Why the subnet file could not be written; empty where it was not tried or was written. */
  subnetFileProblem = "";
  /**
   * Read at each check: why the backend's own device carries nothing; undefined where it does, or
   * where that has lasted for less than `graceMs`.
   */
  deviceProblem: (graceMs: number) => string | undefined = () => undefined;
  /** Read at each check: why packets are lost although {@link ready}; undefined where none are. */
  trafficProblem: () => string | undefined = () => undefined;
  backend = "";
  /** Leases in the store that concern us: ours and the valid peers'. */
  leases = 0;
  /** Peers that this node forwards packets to. */
  peers = 0;
  /** Peers left out, for their backend type or broken data. */
  skippedPeers = 0;
  /** End of our lease; Infinity for a reservation. */
  leaseExpiration = 0;
  reconciles = 0;
  reconcileSeconds = 0;
  lastReconcileSeconds = 0;
  /** Times that something of ours was put back after another's change. */
  heals = 0;
  /** Entries the kernel refused at the last reconcile. */
  failedEntries = 0;
  /** All refused entries since the start. */
  backendErrors = 0;
  /** Failed runs of the traffic rules. */
  trafficErrors = 0;
  /** Faults of the program itself that nothing else caught. */
  internalErrors = 0;
  /** Read at each scrape: the last answer from the store. */
  lastContact: () => number = () => 0;
  /** Read at each scrape, too: what the tunnel carried; undefined where none runs. */
  tunnel: () => Promise<TunnelCounters | undefined> = () => Promise.resolve(undefined);
}

/** Milliseconds in which a lost device may be restored before the node is not ready. */
const DEVICE_GRACE = 10_000;

/** Why the node is not ready, for `/readyz` and the metric alike; undefined where it is. */
export function notReadyReason(status: Status): string | undefined {
  if (status.ready) return status.deviceProblem(DEVICE_GRACE) ?? status.trafficProblem();
  return status.deviceProblem(0) ?? (status.subnetFileProblem || "the subnet file is not written");
}

/** A metric of the text format, with all its samples. */
interface Family {
  name: string;
  type: "gauge" | "counter";
  help: string;
  /** Made as they are read, as there may be many. */
  samples: Iterable<Sample>;
}

/** Labels, `backend="udp"` or none, and a value. */
type Sample = [labels: string, value: number];

/** Characters of a piece of the text, about. */
const PIECE = 16_384;

/**
 * The status in Prometheus' text format 0.0.4, in pieces: with thousands of peers it has megabytes,
 * which an agent that is short of memory should not hold at once.
 *
 * @param tunnel the counters of the udp backend's tunnel, where one runs
 */
export function* metricsText(
  status: Status,
  version: string,
  tunnel?: TunnelCounters,
): Generator<string, void, void> {
  let piece = "";
  for (const line of lines(status, version, tunnel)) {
    piece += line;
    if (piece.length < PIECE) continue;
    yield piece;
    piece = "";
  }
  yield piece;
}

function* lines(status: Status, version: string, tunnel?: TunnelCounters) {
  for (const family of agentFamilies(status, version)) yield* linesOf(family);
  for (const family of tunnel ? tunnelFamilies(tunnel) : []) yield* linesOf(family);
}

function agentFamilies(status: Status, version: string): Family[] {
  const backend = `backend="${status.backend}"`;
  return [
    gauge(
      "flanneld_ready",
      "1 while /readyz answers 200.",
      notReadyReason(status) === undefined ? 1 : 0,
    ),
    gauge("flanneld_start_time_seconds", "Time at which the agent started.", status.started / 1000),
    gauge("flanneld_leases", "Valid leases in etcd, including this node's own.", status.leases),
    gauge("flanneld_peers", "Peers that this node forwards packets to.", status.peers),
    gauge(
      "flanneld_peers_skipped",
      "Peers skipped because of their backend type or data.",
      status.skippedPeers,
    ),
    gauge(
      "flanneld_lease_expiration_time_seconds",
      "Time at which this node's lease expires.",
      status.leaseExpiration / 1000,
    ),
    gauge(
      "flanneld_etcd_last_contact_time_seconds",
      "Time of etcd's last answer.",
      status.lastContact() / 1000,
    ),
    counter("flanneld_reconciles_total", "Reconciliations of the kernel state.", status.reconciles),
    counter(
      "flanneld_reconcile_seconds_total",
      "Time spent reconciling the kernel state.",
      status.reconcileSeconds,
    ),
    gauge(
      "flanneld_reconcile_last_seconds",
      "Duration of the last reconciliation.",
      status.lastReconcileSeconds,
    ),
    counter(
      "flanneld_heals_total",
      "Times that another program's change to the kernel state was undone.",
      status.heals,
    ),
    gauge(
      "flanneld_failed_entries",
      "Entries that the kernel refused in the last reconciliation.",
      status.failedEntries,
    ),
    counter("flanneld_backend_errors_total", "Entries that the kernel refused.", [[
      backend,
      status.backendErrors,
    ]]),
    counter(
      "flanneld_traffic_errors_total",
      "Failed updates of the traffic rules.",
      status.trafficErrors,
    ),
    counter(
      "flanneld_internal_errors_total",
      "Internal errors, after each of which a part of the agent was restarted.",
      status.internalErrors,
    ),
    gauge("flanneld_info", "Version and backend of the running agent.", [
      [`version="${version}",${backend}`, 1],
    ]),
  ];
}

/** The tunnel's counters start anew with the tunnel, as counters may. */
function tunnelFamilies({ sent, received, drops, icmpSent, peers }: TunnelCounters): Family[] {
  const ofPeers = function* (values: number[]): Iterable<Sample> {
    for (const [at, endpoint] of peers.endpoint.entries()) {
      yield [`peer="${endpoint}"`, values[at]];
    }
  };
  const direction = (name: string, what: string, all: Traffic, own: "sent" | "received") => [
    counter(`flanneld_tunnel_${name}_packets_total`, `Inner packets ${what}.`, all.packets),
    counter(`flanneld_tunnel_${name}_bytes_total`, `Bytes of inner packets ${what}.`, all.bytes),
    counter(
      `flanneld_tunnel_peer_${name}_packets_total`,
      `Inner packets ${what}, by the peer's address.`,
      ofPeers(peers[`${own}Packets`]),
    ),
    counter(
      `flanneld_tunnel_peer_${name}_bytes_total`,
      `Bytes of inner packets ${what}, by the peer's address.`,
      ofPeers(peers[`${own}Bytes`]),
    ),
  ];
  return [
    ...direction("sent", "sent to peers", sent, "sent"),
    ...direction("received", "received from peers", received, "received"),
    counter(
      "flanneld_tunnel_dropped_packets_total",
      "Packets dropped, by reason.",
      Object.entries(drops).map(([reason, count]) => [`reason="${reason}"`, count]),
    ),
    counter(
      "flanneld_tunnel_peer_dropped_packets_total",
      "Packets received from a peer and dropped, by the peer's address.",
      ofPeers(peers.dropped),
    ),
    counter("flanneld_tunnel_icmp_sent_total", "ICMP errors sent.", icmpSent),
  ];
}

const gauge = (name: string, help: string, value: number | Iterable<Sample>) =>
  family("gauge", name, help, value);

const counter = (name: string, help: string, value: number | Iterable<Sample>) =>
  family("counter", name, help, value);

function family(
  type: Family["type"],
  name: string,
  help: string,
  value: number | Iterable<Sample>,
): Family {
  return { name, type, help, samples: typeof value === "number" ? [["", value]] : value };
}

function* linesOf({ name, type, help, samples }: Family): Generator<string, void, void> {
  yield `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
  for (const [labels, value] of samples) {
    yield `${name}${labels && `{${labels}}`} ${value === Infinity ? "+Inf" : value}\n`;
  }
}
