import assert from "node:assert/strict";
import { Cidr } from "../base/cidr.ts";
import type { Candidate } from "../subnet/types.ts";
import { skippedLeases } from "./lease_notes.ts";

let created = 0;

function candidate(subnet: string, publicIP: string, backendType = "vxlan"): Candidate {
  const key = subnet.replace("/", "-");
  const revision = String(++created);
  const attrs = { publicIP, publicIPv6: null, backendType };
  const lease = {
    ...{ key, revision, attrs },
    subnet: Cidr.parse(subnet),
    ipv6Subnet: null,
    expiration: null,
  };
  return { key, created, revision, lease, problem: "" };
}

const NETWORK = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}';

Deno.test("leases that agents skip are told with the reason, the others are not", () => {
  const reasons = skippedLeases(NETWORK, [
    candidate("10.1.2.0/24", "192.0.2.1"),
    candidate("10.9.0.0/24", "192.0.2.2"),
    candidate("10.1.0.0/20", "192.0.2.3"),
    candidate("10.1.2.0/25", "192.0.2.4"),
    candidate("10.1.3.0/24", "127.0.0.1"),
    candidate("10.1.4.0/24", "192.0.2.5", "host-gw"),
    candidate("10.1.5.0/24", "192.0.2.6", ""),
  ]);
  assert.deepEqual([...reasons], [
    ["10.9.0.0-24", "10.9.0.0/24 is not in the network 10.1.0.0/16"],
    ["10.1.0.0-20", "10.1.0.0/20 is larger than the network's subnets, which are /24"],
    ["10.1.2.0-25", "it overlaps 10.1.2.0-24, which is older"],
    ["10.1.3.0-24", "its public address 127.0.0.1 is a loopback address"],
    ["10.1.4.0-24", 'its backend is "host-gw", the network\'s is vxlan'],
    ["10.1.5.0-24", 'its backend is "udp", the network\'s is vxlan'],
  ]);
});

Deno.test("backends whose leases may name none", () => {
  for (const type of ["udp", "aws-vpc", "alloc"]) {
    const config = NETWORK.replace('"vxlan"', `"${type}"`);
    const reasons = skippedLeases(config, [
      candidate("10.1.2.0/24", "192.0.2.1", type),
      candidate("10.1.3.0/24", "192.0.2.2", ""),
      candidate("10.1.4.0/24", "192.0.2.3", "vxlan"),
    ]);
    // alloc carries nothing, whatever the peers are.
    assert.deepEqual([...reasons.keys()], type === "alloc" ? [] : ["10.1.4.0-24"], type);
  }
});

Deno.test("without a valid network config no lease is marked", () => {
  const outside = [candidate("10.9.0.0/24", "192.0.2.2")];
  for (const config of [undefined, "{", "{}"]) assert.equal(skippedLeases(config, outside).size, 0);
});
