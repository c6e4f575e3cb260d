import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import { lease } from "../testing.ts";
import {
  type Coverage,
  missingPeers,
  routingProblems,
  unroutedPeers,
  vpcSubnets,
} from "./coverage.ts";
import type { RouteTable } from "./types.ts";

type Routes = [destination: string, target: string, blackHole?: "black hole"][];

/** A route table that these VPC subnets are associated with, or the main one. */
function table(id: string, followers: string[] | "main", ...routes: Routes): RouteTable {
  return {
    id,
    vpcId: "vpc-1",
    subnetIds: followers === "main" ? [] : followers,
    isMain: followers === "main",
    prefixLists: [],
    routes: [["172.31.0.0/16", "local"] as Routes[0], ...routes].map((
      [destination, target, state],
    ) => ({ destination: Cidr.parse(destination), target, blackHole: state !== undefined })),
  };
}

const cidrs = (...texts: string[]) => texts.map((text) => Cidr.parse(text));

/** A node in subnet-1 with 10.1.40.0/24; it follows the first table. */
function coverage(tables: RouteTable[], more: Partial<Coverage> = {}): Coverage {
  return {
    tables,
    followed: tables[0],
    named: [],
    strays: [],
    eniId: "eni-1",
    vpcId: "vpc-1",
    subnetId: "subnet-1",
    networks: [{ network: Cidr.parse("10.1.0.0/16"), subnetLength: 24 }],
    own: cidrs("10.1.40.0/24"),
    peers: cidrs("10.1.41.0/24", "10.1.42.0/24"),
    ...more,
  };
}

/** Problems in short, each a line. */
function lines(of: Coverage): string[] {
  return routingProblems(of).map(({ detail, fix }) => `${detail}; ${fix}`);
}

const LIST = (json: string) =>
  `set "RouteTableID": ${json} in the network config's Backend (flanneld config set) and restart ` +
  "the agents, so that every node fills all of these tables";

Deno.test("one table for all nodes is as it should be", () => {
  const one = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"], [
    "10.1.42.0/24",
    "eni-3",
  ], ["0.0.0.0/0", "igw-1"]);
  assert.deepEqual(lines(coverage([one, table("rtb-2", "main", ["0.0.0.0/0", "igw-1"])])), []);
});

Deno.test("nodes whose VPC subnets have tables of their own: names them and the list", () => {
  const own = table("rtb-9", ["subnet-1"], ["10.1.40.0/24", "eni-1"]);
  const second = table("rtb-2", ["subnet-2"], ["10.1.41.0/24", "eni-2"]);
  const main = table("rtb-1", "main", ["10.1.42.0/24", "eni-3"]);
  const other = table("rtb-0", ["subnet-0"], ["10.8.0.0/16", "tgw-1"]);
  assert.deepEqual(lines(coverage([own, second, main, other])), [
    "route table rtb-9, which this node's VPC subnet subnet-1 follows, has no route to " +
    "10.1.41.0/24 and 10.1.42.0/24, but rtb-1 and rtb-2 do: packets between this node and those peers " +
    `are lost; ${LIST('["rtb-1","rtb-2","rtb-9"]')}`,
  ]);
  // Seen from another node it is the same list.
  const seen = coverage([second, own, main, other], {
    own: cidrs("10.1.41.0/24"),
    peers: cidrs("10.1.40.0/24", "10.1.42.0/24"),
  });
  assert.ok(lines(seen)[0].includes(LIST('["rtb-1","rtb-2","rtb-9"]')), lines(seen)[0]);
});

Deno.test("IPv6 subnets count, each family on its own", () => {
  const own = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  const other = table("rtb-2", "main", ["fd00:1:0:41::/64", "eni-2"], ["10.1.41.0/24", "eni-2"]);
  const [line, ...more] = lines(
    coverage([own, other], { peers: cidrs("10.1.41.0/24", "fd00:1:0:41::/64") }),
  );
  assert.deepEqual(more, []);
  assert.match(line, /has no route to fd00:1:0:41::\/64, but rtb-2 does/);
});

Deno.test("a peer with no route anywhere in the VPC is no reason for another list", () => {
  const own = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"]);
  // Its agent is not ready, its instance is gone, or it is in a VPC behind a peering.
  const peered = table("rtb-2", "main", ["10.1.0.0/16", "pcx-1"], [
    "10.1.42.0/24",
    "eni-3",
    "black hole",
  ]);
  const of = coverage([own, peered]);
  assert.deepEqual(lines(of), []);
  assert.deepEqual(unroutedPeers(of).map(String), ["10.1.41.0/24", "10.1.42.0/24"]);
});

Deno.test("a table that no VPC subnet follows has leftovers at most", () => {
  const own = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"]);
  const loose = table("rtb-2", [], ["10.1.41.0/24", "eni-2"]);
  assert.deepEqual(lines(coverage([own, loose])), []);
  assert.deepEqual(missingPeers(coverage([own, loose])).map(String), [
    "10.1.41.0/24",
    "10.1.42.0/24",
  ]);
});

Deno.test("named tables that miss the one that the node follows", () => {
  const followed = table("rtb-1", ["subnet-1"]);
  const named = table("rtb-2", ["subnet-2"], ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  const expected = [
    "this node's VPC subnet subnet-1 follows route table rtb-1, which RouteTableID does not name: " +
    `packets from this node's containers to other nodes are lost; ${LIST('["rtb-2","rtb-1"]')}`,
  ];
  assert.deepEqual(lines(coverage([followed, named], { named: ["rtb-2"] })), expected);
  assert.deepEqual(lines(coverage([followed, named], { named: ["rtb-2"], peers: [] })), expected);
  const without = { named: ["rtb-2"], own: [], peers: [] };
  assert.deepEqual(lines(coverage([followed, named], without)), expected);
  // A table without followers alone is named: the nodes fill what nobody's packets follow.
  const loose = table("rtb-2", [], ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  assert.deepEqual(lines(coverage([followed, loose], { named: ["rtb-2"] })), expected);
  // Somebody else keeps the same routes there.
  const filled = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  assert.deepEqual(lines(coverage([filled, named], { named: ["rtb-2"] })), []);
});

Deno.test("named tables that miss one that a peer fills", () => {
  const followed = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"]);
  const other = table("rtb-3", "main", ["10.1.41.0/24", "eni-2"]);
  const [line] = lines(coverage([followed, other], { named: ["rtb-2", "rtb-1"] }));
  assert.ok(line.includes(LIST('["rtb-2","rtb-1","rtb-3"]')), line);
});

Deno.test("a peer that could not write to one of the named tables", () => {
  const followed = table("rtb-1", ["subnet-1"], ["10.1.40.0/24", "eni-1"]);
  const other = table("rtb-2", ["subnet-2"], ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  assert.deepEqual(lines(coverage([followed, other], { named: ["rtb-1", "rtb-2"] })), [
    "route table rtb-1, which this node's VPC subnet subnet-1 follows, has no route to " +
    "10.1.41.0/24, but rtb-2 does: packets from this node to those peers are lost; see those nodes' logs " +
    "for why they cannot write to rtb-1 (a missing permission, a full table)",
  ]);
});

Deno.test("a more specific route over a lease takes its packets", () => {
  const shadowed = table(
    "rtb-1",
    "main",
    ["10.1.40.0/24", "eni-1"],
    ["10.1.40.128/25", "igw-1"],
    ["10.1.41.0/24", "eni-2"],
    ["10.1.41.64/26", "eni-9"],
    // To the same node, gone, or of a subnet that nobody has.
    ["10.1.42.0/24", "eni-3"],
    ["10.1.42.128/25", "eni-3"],
    ["10.1.42.0/25", "eni-8", "black hole"],
    ["10.1.50.0/25", "igw-1"],
  );
  assert.deepEqual(lines(coverage([shadowed])), [
    "route table rtb-1 routes 10.1.40.128/25, a part of this node's subnet 10.1.40.0/24, to igw-1 " +
    "(and likewise 10.1.41.64/26): packets to there never reach the node; remove that " +
    "route (aws ec2 delete-route --route-table-id rtb-1 --destination-cidr-block 10.1.40.128/25), " +
    "or keep the subnet out of SubnetMin and SubnetMax",
  ]);
  // A lease of its own, though inside of another, is no stranger.
  const nested = coverage([shadowed], {
    peers: cidrs("10.1.41.0/24", "10.1.41.64/26"),
    own: cidrs("10.1.60.0/24"),
  });
  assert.deepEqual(lines(nested), []);
  // The node's own from before its subnets had this length.
  const before = table("rtb-1", "main", ["10.1.40.128/25", "eni-1"]);
  assert.deepEqual(lines(coverage([before], { peers: [] })), []);
  // Other tables lead other hosts' packets.
  const elsewhere = table("rtb-2", [], ["10.1.40.128/25", "igw-1"]);
  assert.deepEqual(lines(coverage([table("rtb-1", "main"), elsewhere], { peers: [] })), []);
  const six = table("rtb-1", "main", ["fd00:1:0:40:8000::/65", "tgw-1"]);
  const [line] = lines(coverage([six], { own: cidrs("fd00:1:0:40::/64"), peers: [] }));
  assert.match(line, /--destination-ipv6-cidr-block fd00:1:0:40:8000::\/65\)/);
});

Deno.test("named tables of another VPC, or gone, are passed by name", () => {
  const strays = [{ id: "rtb-8", vpcId: "vpc-2" }, { id: "rtb-9", vpcId: undefined }];
  const named = ["rtb-1", "rtb-8", "rtb-9"];
  const one = table("rtb-1", "main", ["10.1.40.0/24", "eni-1"]);
  assert.deepEqual(lines(coverage([one], { named, strays, peers: [] })), [
    "RouteTableID names rtb-8 (in vpc-2) and rtb-9 (not in this account and region): this node, in " +
    "vpc-1, ignores them; remove tables that no node needs from RouteTableID in the network config",
  ]);
});

Deno.test("only leases that the VPC routes count", () => {
  const leases = [
    lease("10.1.41.0/24", { backendType: "aws-vpc" }, "fd00:1:0:41::/64"),
    lease("10.1.42.0/24", { backendType: "" }),
    lease("10.1.43.0/24", { backendType: "vxlan" }),
  ];
  assert.deepEqual(vpcSubnets(leases).map(String), [
    "10.1.41.0/24",
    "fd00:1:0:41::/64",
    "10.1.42.0/24",
  ]);
});

Deno.test("all that is read of a large VPC is compared in no time", () => {
  const subnet = (n: number) => `10.${n >> 8}.${n & 255}.0/24`;
  const routes = Array.from({ length: 500 }, (_, n): Routes[0] => [subnet(n), `eni-${n}`]);
  const tables = Array.from({ length: 20 }, (_, n) => table(`rtb-${n}`, [`s-${n}`], ...routes));
  const peers = Array.from({ length: 1000 }, (_, n) => Cidr.parse(subnet(n)));
  const began = performance.now();
  assert.deepEqual(lines(coverage(tables, { peers })), []);
  const took = performance.now() - began;
  assert.ok(took < 1_000, `${took} ms`);
});
