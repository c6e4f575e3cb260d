import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import { parseNetworkConfig } from "../../subnet/config.ts";
import { routeConflicts } from "./conflicts.ts";

const { ipv4, ipv6 } = parseNetworkConfig(JSON.stringify({
  Network: "10.1.0.0/16",
  SubnetMax: "10.1.127.0",
  EnableIPv6: true,
  IPv6Network: "fd00:1::/48",
  Backend: { Type: "aws-vpc" },
}));

const cidrs = (...texts: string[]) => texts.map((text) => Cidr.parse(text));

/** Conflicts of one route, each a line, on the node eni-1 with 10.1.40.0/24. */
function conflicts(destination: string, target: string, blackHole = false): string[] {
  const table = {
    id: "rtb-1",
    vpcId: "vpc-1",
    subnetIds: [],
    isMain: true,
    prefixLists: [],
    routes: [{ destination: Cidr.parse(destination), target, blackHole }],
  };
  const leased = {
    eniId: "eni-1",
    own: cidrs("10.1.40.0/24", "fd00:1:0:40::/64"),
    peers: cidrs("10.1.41.0/24"),
  };
  return routeConflicts(table, [ipv4!, ipv6!], leased).map(({ kind, subnet }) =>
    `${kind} ${subnet}`
  );
}

Deno.test("a route to no network interface where a node's is, or may come", () => {
  assert.deepEqual(conflicts("10.1.40.0/24", "igw-1"), ["own 10.1.40.0/24"]);
  assert.deepEqual(conflicts("fd00:1:0:40::/64", "nat-1"), ["own fd00:1:0:40::/64"]);
  assert.deepEqual(conflicts("10.1.41.0/24", "tgw-1"), ["leased 10.1.41.0/24"]);
  for (const target of ["igw-1", "nat-1", "tgw-1", "pcx-1", "vgw-1", "an unknown target"]) {
    assert.deepEqual(conflicts("10.1.64.0/24", target), ["free 10.1.64.0/24"]);
  }
  assert.deepEqual(conflicts("10.1.64.128/25", "igw-1"), ["free 10.1.64.0/24"]);
});

Deno.test("a stranger's network interface in a subnet that may be leased", () => {
  assert.deepEqual(conflicts("10.1.64.0/24", "eni-9"), ["free, replaceable 10.1.64.0/24"]);
});

Deno.test("nodes' own routes, wider ones, and what cannot be leased are no conflicts", () => {
  assert.deepEqual(conflicts("10.1.40.0/24", "eni-1"), []);
  assert.deepEqual(conflicts("10.1.41.0/24", "eni-2"), []);
  // Our own former subnet; the agent removes it.
  assert.deepEqual(conflicts("10.1.64.0/24", "eni-1"), []);
  // Reported as a route over a lease.
  assert.deepEqual(conflicts("10.1.41.128/25", "igw-1"), []);
  assert.deepEqual(conflicts("10.1.0.0/16", "tgw-1"), []);
  assert.deepEqual(conflicts("10.1.64.0/20", "tgw-1"), []);
  assert.deepEqual(conflicts("0.0.0.0/0", "igw-1"), []);
  assert.deepEqual(conflicts("10.2.64.0/24", "igw-1"), []);
  // Not between SubnetMin and SubnetMax.
  assert.deepEqual(conflicts("10.1.0.0/24", "igw-1"), []);
  assert.deepEqual(conflicts("10.1.128.0/24", "igw-1"), []);
  // Agents remove it.
  assert.deepEqual(conflicts("10.1.64.0/24", "nat-1", true), []);
});
