import assert from "node:assert/strict";
import { overlap, Owners } from "./history.ts";

const identify = (value: string) => (JSON.parse(value) as { PublicIP: string }).PublicIP;
const lease = (ip: string) => JSON.stringify({ PublicIP: ip });

Deno.test("a subnet that a second node takes while it has an owner is a conflict", () => {
  const owners = new Owners(identify);
  const put = (revision: number, key: string, ip?: string) =>
    owners.apply({ revision, key, value: ip && lease(ip), seen: 0 });
  put(2, "10.1.34.0-24", "192.0.2.1");
  put(3, "10.1.35.0-24", "192.0.2.2");
  put(4, "10.1.34.0-24", "192.0.2.1");
  put(5, "10.1.34.0-24");
  put(6, "10.1.34.0-24", "192.0.2.3");
  assert.deepEqual(owners.conflicts, []);
  put(7, "10.1.35.0-24", "192.0.2.3");
  put(8, "10.1.34.128-25", "192.0.2.4");
  assert.deepEqual(owners.conflicts.map(({ revision }) => revision), [7, 8]);
});

Deno.test("keys overlap where their subnets do", () => {
  assert.ok(overlap("10.1.0.0-16", "10.1.34.0-24"));
  assert.ok(overlap("10.1.34.0-24", "10.1.34.0-24&fd00-1---64"));
  assert.ok(!overlap("10.1.34.0-24", "10.1.35.0-24"));
});
