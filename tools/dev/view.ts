/**
 * The live view: leases, peers and throughput of each host.
 *
 * @module
 */
import type { Cluster, Node } from "../../testbed/cluster.ts";
import { bitRate, roundTrip, table } from "./format.ts";
import { type Path, ping } from "./traffic.ts";

/** Bytes through a host's interface since it was made. */
interface Counters {
  rx: number;
  tx: number;
  /** Milliseconds of the monotonic clock. */
  at: number;
}

/** One host as seen now. */
export interface HostSample {
  host: string;
  /** `ready`, `not ready` or `ended`. */
  agent: string;
  /** Its subnet, of a dual-stack lease the IPv4 half. */
  lease: string | undefined;
  /** Peers that its agent carries packets to; undefined where it does not say. */
  peers: number | undefined;
  /** Bits a second since the sample before; undefined in the first one. */
  rx: number | undefined;
  tx: number | undefined;
  /** Ping of the next host's container, in milliseconds. */
  rtt: number | undefined;
}

/** Takes samples of a cluster, whose rates count from the sample before. */
export class Sampler {
  readonly #before = new Map<Node, Counters>();

  /** @param paths the ping of each host, by its number */
  constructor(readonly cluster: Cluster, readonly paths: Path[]) {}

  async sample(): Promise<HostSample[]> {
    const leases = await leasesByHolder(this.cluster);
    return await Promise.all(this.cluster.nodes.map((node) => this.#host(node, leases)));
  }

  async #host(node: Node, leases: Map<string, string>): Promise<HostSample> {
    const path = this.paths.find(({ from }) => from.node === node);
    const [metrics, now, rtt] = await Promise.all([
      node.health("/metrics"),
      counters(node),
      path && ping(path),
    ]);
    const key = leases.get(node.ipv4 ?? node.ipv6 ?? "");
    const before = this.#before.get(node);
    this.#before.set(node, now);
    const rate = (key: "rx" | "tx") =>
      before && (now[key] - before[key]) * 8000 / (now.at - before.at);
    return {
      host: hostName(node),
      agent: node.agent?.ended
        ? "ended"
        : metric(metrics.body, "flanneld_ready") === 1
        ? "ready"
        : "not ready",
      lease: key && leaseOf(key, node.ipv4 ?? node.ipv6),
      peers: metric(metrics.body, "flanneld_peers"),
      rx: rate("rx"),
      tx: rate("tx"),
      rtt,
    };
  }
}

/** Keys of the leases in etcd by the public address of the holder; none while etcd is silent. */
export async function leasesByHolder(cluster: Cluster): Promise<Map<string, string>> {
  try {
    return new Map([...await cluster.leases()].map(([key, value]) => {
      const { PublicIP, PublicIPv6 } = JSON.parse(value);
      return [cluster.families === "ipv6" ? PublicIPv6 : PublicIP, key];
    }));
  } catch {
    return new Map();
  }
}

/**
 * The subnet of a lease that is of this address's family, `10.1.34.0/24`, from the key in etcd,
 * `10.1.34.0-24&fd00:1::-64`.
 */
export function leaseOf(key: string, address = ""): string {
  const half = key.split("&").at(address.includes(":") ? -1 : 0) ?? key;
  return half.replace(/-(?=\d+$)/, "/");
}

/** `node1` is the first. */
export function hostName(node: Node): string {
  return `node${node.index + 1}`;
}

/** Value of a metric in Prometheus' text format. */
export function metric(text: string, name: string): number | undefined {
  const value = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "m").exec(text)?.[1];
  return value === undefined ? undefined : Number(value);
}

async function counters(node: Node): Promise<Counters> {
  const text = await node.ns.run("cat", "/proc/net/dev");
  // eth0: bytes and seven more of what came, then bytes of what went
  const [rx, , , , , , , , tx] = (/^\s*eth0:(.*)$/m.exec(text)?.[1] ?? "").trim().split(/\s+/)
    .map(Number);
  return { rx, tx, at: performance.now() };
}

/** The view as lines, for a terminal. */
export function viewLines(samples: HostSample[]): string[] {
  return table([
    ["HOST", "AGENT", "LEASE", "PEERS", "RECEIVES", "SENDS", "PING NEXT"],
    ...samples.map((sample) => [
      sample.host,
      sample.agent,
      sample.lease ?? "none",
      String(sample.peers ?? "?"),
      rateText(sample.rx),
      rateText(sample.tx),
      roundTrip(sample.rtt),
    ]),
  ]);
}

/** The view as one line, for a log. */
export function viewLine(samples: HostSample[]): string {
  return samples.map(({ host, agent, lease, peers, rx, tx, rtt }) =>
    `${host} ${agent}, lease ${lease ?? "none"}, peers ${peers ?? "?"}, ` +
    `receives ${rateText(rx)}, sends ${rateText(tx)}, ping ${roundTrip(rtt)}`
  ).join(" | ");
}

function rateText(rate: number | undefined): string {
  return rate === undefined ? "-" : bitRate(rate);
}
