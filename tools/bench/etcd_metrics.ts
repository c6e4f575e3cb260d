/**
 * What etcd tells of itself at `/metrics`.
 *
 * @module
 */
import type { Cluster } from "../../testbed/cluster.ts";

/** Samples by name with labels, as they stand there: `grpc_server_started_total{grpc_method="Txn",…}`. */
export type Metrics = Map<string, number>;

/** Reads the metrics of a cluster's etcd. */
export async function etcdMetrics({ etcd, etcdHost }: Cluster): Promise<Metrics> {
  const [host, port] = etcd.address.split(":");
  // bash speaks TCP by itself; nothing else that every host has reaches into a namespace.
  const script = `exec 3<>/dev/tcp/${host}/${port} && ` +
    `printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 cat <&3`;
  return parseMetrics(await etcdHost.run("bash", "-c", script));
}

/** Reads Prometheus' text format. */
export function parseMetrics(text: string): Metrics {
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(samples.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

/** The sum of all samples of a name whose labels hold a text. */
export function total(metrics: Metrics, name: string, label = ""): number {
  let sum = 0;
  for (const [key, value] of metrics) {
    if ((key === name || key.startsWith(`${name}{`)) && key.includes(label)) sum += value;
  }
  return sum;
}
