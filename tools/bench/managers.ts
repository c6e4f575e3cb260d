/**
 * Many subnet managers in one process: what etcd sees of as many agents.
 *
 * `managers.ts ENDPOINT JOB`, the job as JSON. Prints `ready` once all have a lease and follow the
 * others, then goes on until it is ended.
 *
 * @module
 */
import { EtcdSubnetManager } from "../../subnet/etcd/manager.ts";
import { simulated } from "./simulated.ts";

/** Which ones. */
export interface ManagersJob {
  /** Numbers of the nodes that they stand for. */
  first: number;
  count: number;
}

/** Starts one. Resolves once it follows the others. */
async function start(endpoint: string, number: number, signal: AbortSignal): Promise<void> {
  const manager = new EtcdSubnetManager({
    endpoints: [endpoint],
    prefix: "/coreos.com/network",
    previous: { subnet: null, ipv6Subnet: null },
    renewMarginMinutes: 60,
  });
  const config = await manager.networkConfig(signal);
  const { ip, mac } = simulated(number);
  const lease = await manager.acquire(config, {
    publicIP: ip,
    publicIPv6: null,
    backendType: "vxlan",
    backendData: { VNI: 1, VtepMAC: mac },
  }, signal);
  const { promise: following, resolve } = Promise.withResolvers<void>();
  manager.watch(lease, {
    peers: () => resolve(),
    lost: (reason) => console.log(`${number} lost its lease: ${reason}`),
    config: () => {},
  }, signal);
  manager.keep(lease, signal);
  await following;
}

if (import.meta.main) {
  const [endpoint, text] = Deno.args;
  const { first, count } = JSON.parse(text) as ManagersJob;
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: count }, (_, at) => start(endpoint, first + at, signal)));
  console.log("ready");
}
