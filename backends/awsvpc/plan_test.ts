import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import { lease } from "../testing.ts";
import { type Desired, endedRoutes, overlapsVpc, planEnded, planTable } from "./plan.ts";
import type { Eni, RouteTable, VpcRoute } from "./types.ts";

const OURS = "eni-0aa";
const SUBNET = Cidr.parse("10.1.40.0/24");

const DESIRED: Desired = {
  eniId: OURS,
  subnets: [SUBNET],
  networks: [{ network: Cidr.parse("10.1.0.0/16"), subnetLength: 24 }],
  leased: new Set(["10.1.50.0/24"]),
  isLeaseOver: false,
  isFormer: () => true,
  isDead: () => true,
};

function table(...routes: [destination: string, target: string, blackHole?: "black hole"][]) {
  return {
    id: "rtb-1",
    vpcId: "vpc-1",
    subnetIds: [],
    isMain: true,
    prefixLists: [],
    routes: routes.map(([destination, target, state]): VpcRoute => ({
      destination: Cidr.parse(destination),
      target,
      blackHole: state !== undefined,
    })),
  } satisfies RouteTable;
}

/** Changes in short: `create 10.1.40.0/24`. */
function changes(of: RouteTable, desired = DESIRED): string[] {
  return planTable(of, desired).changes.map((change) =>
    [change.kind, change.destination, ..."reason" in change ? [change.reason] : []].join(" ")
  );
}

Deno.test("our subnet's route is created, kept or replaced", () => {
  assert.deepEqual(changes(table()), ["create 10.1.40.0/24"]);
  assert.deepEqual(changes(table(["10.1.40.0/24", OURS])), []);
  assert.deepEqual(changes(table(["10.1.40.0/24", "eni-0bb"])), ["replace 10.1.40.0/24"]);
  assert.deepEqual(changes(table(["10.1.40.0/24", "pcx-1", "black hole"])), [
    "replace 10.1.40.0/24",
  ]);
});

Deno.test("what no node can have set is not replaced", () => {
  const { changes, conflicts } = planTable(table(["10.1.40.0/24", "nat-1"]), DESIRED);
  assert.deepEqual(changes, []);
  assert.deepEqual(conflicts.map(({ route }) => route.target), ["nat-1"]);
});

Deno.test("a node whose lease is over takes no route from another's network interface", () => {
  const over = { ...DESIRED, isLeaseOver: true };
  const { changes: none, conflicts } = planTable(table(["10.1.40.0/24", "eni-0bb"]), over);
  assert.deepEqual([none, conflicts.map(({ kind }) => kind)], [[], ["owner"]]);
  // What nobody's packets follow it may set.
  assert.deepEqual(changes(table(["10.1.40.0/24", "eni-0bb", "black hole"]), over), [
    "replace 10.1.40.0/24",
  ]);
  assert.deepEqual(changes(table(), over), ["create 10.1.40.0/24"]);
});

Deno.test("black holes go from the overlay's network, and only from it", () => {
  const routes = table(
    ["10.1.40.0/24", OURS],
    ["10.1.60.0/24", "eni-0cc", "black hole"],
    ["10.1.61.0/25", "eni-0cc", "black hole"],
    ["10.1.64.0/20", "eni-0cc", "black hole"],
    ["10.1.62.0/24", "pcx-1", "black hole"],
    ["10.1.63.0/24", "tgw-1", "black hole"],
    ["10.1.64.0/24", "vgw-1", "black hole"],
    ["10.1.0.0/16", "eni-0cc"],
    ["10.2.0.0/24", "eni-0cc", "black hole"],
    ["10.0.0.0/8", "eni-0cc", "black hole"],
    ["0.0.0.0/0", "igw-1"],
    ["10.1.50.0/24", "eni-0bb"],
  );
  assert.deepEqual(changes(routes), ["delete 10.1.60.0/24 black hole"]);
  assert.deepEqual(changes(routes, { ...DESIRED, isDead: () => false }), []);
});

Deno.test("a former subnet of this node goes, unless a peer has leased it", () => {
  const routes = table(
    ["10.1.40.0/24", OURS],
    ["10.1.41.0/24", OURS],
    ["10.1.50.0/24", OURS],
    ["10.1.128.0/20", OURS],
    ["10.2.1.0/24", OURS],
  );
  assert.deepEqual(changes(routes), ["delete 10.1.41.0/24 former subnet of this node"]);
  assert.deepEqual(changes(routes, { ...DESIRED, isFormer: () => false }), []);
});

Deno.test("removals come before additions, since they make room", () => {
  assert.deepEqual(changes(table(["10.1.60.0/24", "eni-0cc", "black hole"])), [
    "delete 10.1.60.0/24 black hole",
    "create 10.1.40.0/24",
  ]);
});

Deno.test("an ended lease's route goes only while it leads to the node that had the lease", () => {
  const attrs = { publicIP: "172.31.0.9", backendType: "aws-vpc" };
  const ended = new Map([["10.1.60.0/24", lease("10.1.60.0/24", attrs)]]);
  const { networks } = DESIRED;
  const routesOf = (of: RouteTable, leases = ended, isForeign = false) =>
    endedRoutes([of], leases, networks, () => isForeign);
  const both = table(["10.1.60.0/24", "eni-0cc"], ["10.1.61.0/24", "eni-0cc"]);
  const routes = routesOf(both);
  assert.equal(routes.length, 1);
  assert.deepEqual(routesOf(both, ended, true), [], "it was there before the lease");
  for (const backendType of ["udp", "", "vxlan"]) {
    const other = new Map([["10.1.60.0/24", lease("10.1.60.0/24", { ...attrs, backendType })]]);
    assert.deepEqual(routesOf(both, other), [], `a lease of type ${backendType || "udp"}`);
  }
  const half = new Map([["10.1.60.0/25", lease("10.1.60.0/25", attrs)]]);
  assert.deepEqual(routesOf(table(["10.1.60.0/25", "eni-0cc"]), half), [], "no node's subnet");
  const eni = (addresses: string[]): Eni => ({
    id: "eni-0cc",
    vpcId: "vpc-1",
    subnetId: "subnet-1",
    instanceId: "i-1",
    sourceDestCheck: false,
    addresses,
    securityGroups: [],
  });
  assert.equal(planEnded(routes, [eni(["172.31.0.9"])]).length, 1);
  assert.deepEqual(planEnded(routes, [eni(["172.31.0.10"])]), []);
  assert.deepEqual(planEnded(routes, []), []);
  // What is no network interface is no node's.
  assert.deepEqual(routesOf(table(["10.1.60.0/24", "igw-1"])), []);
});

Deno.test("a network that lies in the VPC's own is told", () => {
  const { networks } = DESIRED;
  assert.equal(
    overlapsVpc(table(["172.31.0.0/16", "local"], ["10.1.0.0/16", "pcx-1"]), networks),
    undefined,
  );
  assert.equal(`${overlapsVpc(table(["10.0.0.0/8", "local"]), networks)?.local}`, "10.0.0.0/8");
});
