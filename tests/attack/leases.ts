/**
 * Writes many valid leases into an etcd, as a process of its own, since it runs in etcd's namespace:
 * `leases.ts ENDPOINT PREFIX COUNT`, from 10.1.0.0/24 on, with public addresses of their own.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { EtcdClient, type IRequestOp } from "../../subnet/etcd/client.ts";

/** Writes in a transaction: etcd takes 128. */
const BATCH = 100;

const [endpoint, prefix, count] = Deno.args;
const etcd = new EtcdClient({ endpoints: [endpoint] });
const lease = (index: number): IRequestOp => {
  const [high, low] = [index >> 8, index & 255];
  const value = { PublicIP: `192.168.${100 + high}.${low}`, PublicIPv6: null };
  return {
    request_put: {
      key: Buffer.from(`${prefix}/subnets/10.${1 + high}.${low}.0-24`),
      value: Buffer.from(JSON.stringify(value)),
    },
  };
};
for (let first = 0; first < Number(count); first += BATCH) {
  const length = Math.min(BATCH, Number(count) - first);
  await etcd.txn({ success: Array.from({ length }, (_, index) => lease(first + index)) });
}
Deno.exit();
