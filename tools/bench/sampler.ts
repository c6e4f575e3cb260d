/**
 * Reads etcd's metrics ten times a second, from inside a host that reaches it.
 *
 * `sampler.ts ENDPOINT`; prints a {@linkcode Sample} a line, none while etcd is away.
 *
 * @module
 */
import { parseMetrics, total } from "./etcd_metrics.ts";

/** What etcd counted since its start. */
export interface Sample {
  /** Milliseconds of this process's clock. */
  at: number;
  /** gRPC calls begun, streams among them. */
  calls: number;
  /** Of them: transactions, with which leases are read and claimed. */
  transactions: number;
  /** Watchers that are there. */
  watchers: number;
  /** Bytes sent to clients. */
  sent: number;
  /** Processor seconds. */
  cpu: number;
}

const EVERY_MS = 100;

async function sample(endpoint: string): Promise<Sample | undefined> {
  try {
    const response = await fetch(`${endpoint}/metrics`, { signal: AbortSignal.timeout(1000) });
    const at = performance.now();
    const metrics = parseMetrics(await response.text());
    const started = "grpc_server_started_total";
    return {
      at,
      calls: total(metrics, started),
      transactions: total(metrics, started, 'grpc_method="Txn"'),
      watchers: total(metrics, "etcd_debugging_mvcc_watcher_total"),
      sent: total(metrics, "etcd_network_client_grpc_sent_bytes_total"),
      cpu: total(metrics, "process_cpu_seconds_total"),
    };
  } catch {
    return undefined;
  }
}

if (import.meta.main) {
  for (let due = performance.now();; due += EVERY_MS) {
    await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
    const found = await sample(Deno.args[0]);
    if (found) console.log(JSON.stringify(found));
  }
}
