import assert from "node:assert/strict";
import { Cidr } from "../../base/cidr.ts";
import { FormerTables } from "./former_tables.ts";
import type { RouteTable } from "./types.ts";

const OWN = [Cidr.parse("10.1.40.0/24")];
const PEERS = new Set(["10.1.41.0/24"]);

function table(id: string, ...routes: [destination: string, target: string][]): RouteTable {
  return {
    id,
    vpcId: "vpc-1",
    subnetIds: [],
    isMain: false,
    prefixLists: [],
    routes: routes.map(([destination, target]) => ({
      destination: Cidr.parse(destination),
      target,
      blackHole: false,
    })),
  };
}

/** What is removed from `old` once the node, with eni-1, follows `now`. */
function removed(old: RouteTable, now: RouteTable): string[] {
  const former = new FormerTables();
  former.fill([old], "eni-1");
  former.fill([now], "eni-1");
  const look = { ours: [now], all: [old, now] };
  assert.deepEqual(former.removals(look, OWN, PEERS), [], "one look may be stale");
  return former.removals(look, OWN, PEERS).map(({ tableId, destination }) =>
    `${tableId} ${destination}`
  );
}

Deno.test("the node's own route leaves a table that nobody follows", () => {
  const old = table("rtb-1", ["10.1.40.0/24", "eni-1"], ["10.1.50.0/24", "eni-1"]);
  assert.deepEqual(removed(old, table("rtb-2", ["10.1.40.0/24", "eni-1"])), [
    "rtb-1 10.1.40.0/24",
  ]);
});

Deno.test("it stays while a peer has a route there and none in the new table", () => {
  const old = table("rtb-1", ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  assert.deepEqual(removed(old, table("rtb-2", ["10.1.40.0/24", "eni-1"])), []);
  const both = table("rtb-2", ["10.1.40.0/24", "eni-1"], ["10.1.41.0/24", "eni-2"]);
  assert.deepEqual(removed(old, both), ["rtb-1 10.1.40.0/24"]);
  // What is nobody's lease, or no node's route, keeps nothing.
  const others = table("rtb-1", ["10.1.40.0/24", "eni-1"], ["10.1.42.0/24", "eni-2"]);
  assert.deepEqual(removed(others, table("rtb-2")), ["rtb-1 10.1.40.0/24"]);
});

Deno.test("what leads elsewhere by now is another's", () => {
  assert.deepEqual(removed(table("rtb-1", ["10.1.40.0/24", "eni-2"]), table("rtb-2")), []);
});

Deno.test("a route to the network interface that the node had before is its own, too", () => {
  const former = new FormerTables();
  const old = table("rtb-1", ["10.1.40.0/24", "eni-1"]);
  former.fill([old], "eni-1");
  const now = table("rtb-2");
  former.fill([now], "eni-2");
  const look = { ours: [now], all: [old, now] };
  former.removals(look, OWN, PEERS);
  assert.equal(former.removals(look, OWN, PEERS).length, 1);
  // Not known without a look at all tables; forgotten once it is gone.
  assert.deepEqual(former.removals({ ...look, all: undefined }, OWN, PEERS), []);
  assert.deepEqual(former.removals({ ...look, all: [table("rtb-1"), now] }, OWN, PEERS), []);
  assert.deepEqual(former.removals(look, OWN, PEERS), []);
});

Deno.test("a table that is the node's again meanwhile was not left", () => {
  const former = new FormerTables();
  const [old, now] = [table("rtb-1", ["10.1.40.0/24", "eni-1"]), table("rtb-2")];
  former.fill([old], "eni-1");
  const away = { ours: [now], all: [old, now] };
  former.removals(away, OWN, PEERS);
  former.fill([old], "eni-1");
  former.removals({ ours: [old], all: [old, now] }, OWN, PEERS);
  assert.deepEqual(former.removals(away, OWN, PEERS), []);
});
