import assert from "node:assert/strict";
import { Cidr } from "../base/cidr.ts";
import type { Lease } from "../subnet/types.ts";
import { leaseEntry, leaseTable } from "./leases.ts";
import { ownLeases, type ThisNode } from "./this_node.ts";

const NOW = 1_000_000_000_000;

function lease(subnet: string, publicIP: string, rest: Partial<Lease> = {}): Lease {
  return {
    key: subnet.replace("/", "-"),
    subnet: Cidr.parse(subnet),
    ipv6Subnet: null,
    attrs: { publicIP, publicIPv6: null, backendType: "vxlan" },
    expiration: NOW + 86_398_000,
    revision: "1",
    ...rest,
  };
}

Deno.test("the table has columns only for what is there", () => {
  const entries = [
    leaseEntry(lease("10.1.2.0/24", "192.0.2.1"), false, NOW),
    leaseEntry(lease("10.1.30.0/24", "192.0.2.2", { expiration: Infinity }), true, NOW),
  ];
  assert.equal(
    leaseTable(entries),
    `SUBNET        PUBLIC IP  BACKEND  EXPIRES IN
10.1.2.0/24   192.0.2.1  vxlan    23h59m58s
10.1.30.0/24  192.0.2.2  vxlan    never       this node`,
  );
  assert.equal(leaseTable([]), "SUBNET  PUBLIC IP  BACKEND  EXPIRES IN");
  const outside = lease("10.9.0.0/24", "192.0.2.3");
  assert.equal(
    leaseTable([entries[1], leaseEntry(outside, false, NOW, "not in the network")]),
    `SUBNET        PUBLIC IP  BACKEND  EXPIRES IN             NOTE
10.1.30.0/24  192.0.2.2  vxlan    never       this node
10.9.0.0/24   192.0.2.3  vxlan    23h59m58s              skipped: not in the network`,
  );
});

Deno.test("a dual-stack lease", () => {
  const dual = lease("10.1.2.0/24", "192.0.2.1", {
    ipv6Subnet: Cidr.parse("fd00:1::/64"),
    attrs: {
      publicIP: "192.0.2.1",
      publicIPv6: "2001:db8::1",
      backendType: "",
      backendV6Data: { VtepMAC: "02:00:00:00:00:01" },
    },
    expiration: NOW + 61_400,
  });
  const [title, row] = leaseTable([leaseEntry(dual, false, NOW)]).split("\n");
  assert.match(title, /IPV6 SUBNET +PUBLIC IP +PUBLIC IPV6 +BACKEND +VTEP MAC/);
  assert.match(row, /fd00:1::\/64 .* 2001:db8::1 +udp +02:00:00:00:00:01 +1m1s$/);
});

Deno.test("cleanup gives back what announces this node, and nothing that another may have", () => {
  const leases = [lease("10.1.2.0/24", "192.0.2.1"), lease("10.1.3.0/24", "192.0.2.2")];
  const node = (addresses: string[], subnet: string | null): ThisNode => ({
    addresses: new Set(addresses),
    previous: { subnet: subnet === null ? null : Cidr.parse(subnet), ipv6Subnet: null },
  });
  assert.deepEqual(ownLeases(leases, node(["192.0.2.2"], "10.1.2.1/24")), [leases[1]]);
  assert.deepEqual(ownLeases(leases, node(["192.0.2.9"], null)), []);
  assert.throws(
    () => ownLeases(leases, node(["192.0.2.9"], "10.1.2.1/24")),
    /lease 10\.1\.2\.0-24 .* add --public-ip=192\.0\.2\.1/,
  );
});

Deno.test("the lease that a node remembers is its own, whatever that announces", () => {
  const remembered = { ...lease("10.1.2.0/24", "192.0.2.1"), isHeld: true };
  const other = { ...lease("10.1.3.0/24", "192.0.2.3"), isHeld: false };
  const node: ThisNode = { addresses: new Set(), previous: { subnet: null, ipv6Subnet: null } };
  assert.deepEqual(ownLeases([remembered, other], node), [remembered]);
});
