/**
 * What the agent knows of itself: filled by its parts as they work, read by health checks and
 * metrics.
 *
 * @module
 */

/** The agent's state in numbers. Times are milliseconds since the epoch. */
export class Status {
  readonly started = Date.now();
  /** The subnet file is written and the first peers are programmed. */
  ready = false;
  backend = "";
  /** Leases in the store that concern us: ours and the valid peers'. */
  leases = 0;
  /** Peers that packets are carried to. */
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
  /** Read at each scrape: the last answer from the store. */
  lastContact: () => number = () => 0;
}

/** One metric of the text format. */
interface Metric {
  name: string;
  type: "gauge" | "counter";
  help: string;
  value: number;
}

/**
 * The status in Prometheus' text format 0.0.4.
 */
export function metricsText(status: Status, version: string): string {
  const labels = `backend="${status.backend}"`;
  const metrics: Metric[] = [
    gauge(
      "flanneld_ready",
      "1 once the subnet file is written and peers are programmed.",
      +status.ready,
    ),
    gauge("flanneld_start_time_seconds", "When the agent started.", status.started / 1000),
    gauge("flanneld_leases", "Valid leases in the store, ours included.", status.leases),
    gauge("flanneld_peers", "Peers that packets are carried to.", status.peers),
    gauge(
      "flanneld_peers_skipped",
      "Peers left out for their backend type or data.",
      status.skippedPeers,
    ),
    gauge(
      "flanneld_lease_expiration_time_seconds",
      "When our lease ends.",
      status.leaseExpiration / 1000,
    ),
    gauge(
      "flanneld_etcd_last_contact_time_seconds",
      "When the store last answered.",
      status.lastContact() / 1000,
    ),
    counter("flanneld_reconciles_total", "Reconciles of the kernel state.", status.reconciles),
    counter("flanneld_reconcile_seconds_total", "Time spent in them.", status.reconcileSeconds),
    gauge(
      "flanneld_reconcile_last_seconds",
      "Duration of the last one.",
      status.lastReconcileSeconds,
    ),
    counter(
      "flanneld_heals_total",
      "Times that someone else's change was put right.",
      status.heals,
    ),
    gauge(
      "flanneld_failed_entries",
      "Entries that the kernel refused last time.",
      status.failedEntries,
    ),
    counter(`flanneld_backend_errors_total{${labels}}`, "Refused entries.", status.backendErrors),
    counter(
      "flanneld_traffic_errors_total",
      "Failed runs of the traffic rules.",
      status.trafficErrors,
    ),
    gauge(`flanneld_info{version="${version}",${labels}}`, "The version and backend that run.", 1),
  ];
  return metrics.map(text).join("");
}

const gauge = (name: string, help: string, value: number): Metric => ({
  name,
  type: "gauge",
  help,
  value,
});

const counter = (name: string, help: string, value: number): Metric => ({
  name,
  type: "counter",
  help,
  value,
});

function text({ name, type, help, value }: Metric): string {
  const family = name.split("{")[0];
  const number = value === Infinity ? "+Inf" : String(value);
  return `# HELP ${family} ${help}\n# TYPE ${family} ${type}\n${name} ${number}\n`;
}
