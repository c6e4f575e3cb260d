import assert from "node:assert/strict";
import { parseNetworkConfig } from "./config.ts";
import { parseLeaseKey } from "./lease_codec.ts";
import type { Lease, LeaseAttrs } from "./types.ts";
import { Underlay } from "./underlay.ts";
import type { Candidate } from "./types.ts";
import { CROWD, type NodeView, PeerTable } from "./validate.ts";

const IPV4 = parseNetworkConfig('{"Network":"10.1.0.0/16"}');
const DUAL = parseNetworkConfig(
  '{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:1::/48"}',
);

function lease(key: string, attrs: Partial<LeaseAttrs>): Lease {
  return {
    key,
    ...parseLeaseKey(key),
    attrs: { publicIP: null, publicIPv6: null, backendType: "vxlan", ...attrs },
    expiration: null,
    revision: "1",
  };
}

function peer(key: string, created: number, attrs: Partial<LeaseAttrs> = {}): Candidate {
  const found = lease(key, { publicIP: "192.0.2.20", publicIPv6: "2001:db8::20", ...attrs });
  return { key, created, revision: `${created}`, lease: found, problem: "" };
}

const OURS = { publicIP: "192.0.2.10", publicIPv6: "2001:db8::10" };

/** A table of the node with 10.1.10.0/24, and what it told. */
function table(config = IPV4, own = lease("10.1.10.0-24", OURS), view?: NodeView) {
  const told: string[] = [];
  return {
    told,
    peers: new PeerTable(config, own, (key, reason) => {
      if (reason !== undefined) told.push(`${key}: ${reason}`);
    }, view),
  };
}

Deno.test("good peers come through, each bad one is told by key and reason", () => {
  const bad: [string, Partial<LeaseAttrs>, RegExp][] = [
    ["10.2.1.0-24", {}, /not in the network 10\.1\.0\.0\/16/],
    ["0.0.0.0-0", {}, /not in the network/],
    ["10.1.32.0-20", {}, /larger than the network's subnets, which are \/24/],
    ["10.1.10.128-25", {}, /overlaps this node's/],
    ["10.1.41.0-24", { publicIP: null }, /no public address/],
    ["10.1.42.0-24", { publicIP: "192.0.2.10" }, /192\.0\.2\.10 is this node's/],
    ["10.1.43.0-24", { publicIP: "127.0.0.1" }, /loopback/],
    ["10.1.44.0-24", { publicIP: "224.0.0.9" }, /not unicast/],
    ["10.1.45.0-24", { publicIP: "255.255.255.255" }, /not unicast/],
    ["0.0.0.0-0&fd00:1:0:9::-64", {}, /no subnet of the network's address family/],
  ];
  const { peers, told } = table();
  const good = [
    peer("10.1.20.0-24", 1),
    peer("10.1.21.128-25", 2),
    peer("10.1.0.0-24&fd00::-64", 3),
  ];
  assert(peers.replace([...bad.map(([key, attrs], at) => peer(key, 10 + at, attrs)), ...good]));
  assert.deepEqual([...peers.peers().keys()].sort(), good.map(({ key }) => key).sort());
  assert.equal(told.length, bad.length);
  for (const [at, [key, , reason]] of bad.entries()) {
    assert(told[at].startsWith(`${key}: `), told[at]);
    assert.match(told[at], reason);
  }
});

Deno.test("each reason is told once, another one again", () => {
  const { peers, told } = table();
  const key = "10.1.20.0-24";
  const broken = { key, created: 1, revision: "1", lease: null, problem: "its value is not JSON" };
  assert(!peers.set(broken));
  assert(!peers.set({ ...broken, revision: "2" }));
  assert.equal(told.length, 1);
  assert(!peers.set({ ...peer(key, 1, { publicIP: "127.0.0.1" }), revision: "3" }));
  assert.equal(told.length, 2);
  assert(peers.set({ ...peer(key, 1), revision: "4" }), "mended");
  assert(peers.set({ ...broken, revision: "5" }), "a peer that breaks is a peer less");
  assert.equal(told.length, 3);
  assert.equal(peers.peers().size, 0);
});

Deno.test("of leases that overlap the oldest counts, and its end lets the next in", () => {
  const { peers, told } = table();
  const keys = () => [...peers.peers().keys()].sort();
  peers.set(peer("10.1.20.0-25", 5));
  peers.set(peer("10.1.20.128-25", 6));
  assert.deepEqual(keys(), ["10.1.20.0-25", "10.1.20.128-25"]);
  assert(!peers.set(peer("10.1.20.0-24", 9)), "younger than both");
  assert.match(told[0], /^10\.1\.20\.0-24: it overlaps 10\.1\.20\.0-25, which is older/);
  assert(peers.delete("10.1.20.0-25"));
  assert.deepEqual(keys(), ["10.1.20.128-25"], "the other half still stands against it");
  assert(peers.delete("10.1.20.128-25"));
  assert.deepEqual(keys(), ["10.1.20.0-24"]);
  assert(peers.set(peer("10.1.20.64-26", 2)), "an older one, seen later");
  assert.deepEqual(keys(), ["10.1.20.64-26"]);
});

Deno.test("an IPv6 subnet has one owner, too", () => {
  const { peers, told } = table(DUAL, lease("10.1.10.0-24&fd00:1:0:a::-64", OURS));
  peers.set(peer("10.1.20.0-24&fd00:1:0:14::-64", 1));
  peers.set(peer("10.1.21.0-24&fd00:1:0:14::-64", 2));
  peers.set(peer("10.1.22.0-24&fd00:1:0:a::-64", 3));
  peers.set(peer("10.1.23.0-24&fd00:1:0:17::-64", 4, { publicIPv6: null }));
  peers.set(peer("10.1.24.0-24", 5));
  assert.deepEqual([...peers.peers().keys()], ["10.1.20.0-24&fd00:1:0:14::-64", "10.1.24.0-24"]);
  assert.equal(told.length, 3);
});

Deno.test("what did not change keeps its object and is no change", () => {
  const { peers } = table();
  const all = () => [peer("10.1.20.0-24", 1), peer("10.1.21.0-24", 2)];
  assert(peers.replace(all()));
  const before = peers.peers();
  assert(!peers.replace(all()), "the same snapshot");
  assert(!peers.set({ ...peer("10.1.20.0-24", 1), revision: "77" }), "a renewal writes it again");
  assert.equal(peers.peers().get("10.1.20.0-24"), before.get("10.1.20.0-24"));
  assert(
    peers.replace([{ ...peer("10.1.20.0-24", 1, { backendType: "host-gw" }), revision: "78" }]),
  );
  assert.equal(peers.peers().size, 1);
  assert.equal(peers.peers().get("10.1.20.0-24")?.attrs.backendType, "host-gw");
  assert(!peers.delete("10.1.99.0-24"), "an unknown key");
});

Deno.test("a peer that is held stays until it is back, its subnet is another's, or it is released", () => {
  const { peers } = table();
  const keys = () => [...peers.peers().keys()].sort();
  const four = [20, 21, 22, 23].map((subnet) => peer(`10.1.${subnet}.0-24`, subnet));
  const reservation = peer("10.1.24.0-24", 24);
  peers.replace([...four, {
    ...reservation,
    lease: { ...reservation.lease!, expiration: Infinity },
  }]);
  assert(peers.replace([four[0]], true), "a reservation never ends by itself: it was deleted");
  assert.deepEqual(keys(), four.map(({ key }) => key));
  assert.deepEqual(peers.held, four.slice(1).map(({ key }) => key));
  peers.set(peer("10.1.21.0-24", 91));
  peers.set(peer("10.1.22.128-25", 92));
  assert.deepEqual(keys(), ["10.1.20.0-24", "10.1.21.0-24", "10.1.22.128-25", "10.1.23.0-24"]);
  assert.deepEqual(peers.held, ["10.1.23.0-24"]);
  assert(peers.release());
  assert.deepEqual(keys(), ["10.1.20.0-24", "10.1.21.0-24", "10.1.22.128-25"]);
  assert(!peers.release());
});

Deno.test("a peer is not held against a younger lease that has its subnet", () => {
  const { peers, told } = table();
  peers.replace([peer("10.1.20.0-24", 1), peer("10.1.20.128-25", 2), peer("10.1.21.0-24", 3)]);
  assert.match(told.join(), /10\.1\.20\.128-25: it overlaps 10\.1\.20\.0-24, which is older/);
  assert(peers.hold("10.1.20.0-24"), "its end lets the younger in");
  assert(!peers.hold("10.1.21.0-24"));
  assert.deepEqual([...peers.peers().keys()], ["10.1.20.128-25", "10.1.21.0-24"]);
  assert.deepEqual(peers.held, ["10.1.21.0-24"]);
});

Deno.test("our own key is no peer", () => {
  const { peers, told } = table();
  assert(!peers.set(peer("10.1.10.0-24", 1)));
  assert.deepEqual([peers.peers().size, told.length], [0, 0]);
});

Deno.test("peers come the oldest first, also after one was written anew", () => {
  const { peers } = table();
  peers.set(peer("10.1.30.0-24", 3));
  peers.set(peer("10.1.20.0-24", 2));
  const keys = () => [...peers.peers().keys()];
  assert.deepEqual(keys(), ["10.1.20.0-24", "10.1.30.0-24"]);
  peers.set({ ...peer("10.1.20.0-24", 2, { backendType: "host-gw" }), revision: "9" });
  assert.deepEqual(keys(), ["10.1.20.0-24", "10.1.30.0-24"]);
  peers.set(peer("10.1.20.0-24", 10));
  assert.deepEqual(keys(), ["10.1.30.0-24", "10.1.20.0-24"], "deleted and created again");
});

Deno.test("public addresses and subnets are kept apart where hosts live in the network", () => {
  const inside = { publicIP: "10.1.200.10", publicIPv6: null };
  const { peers, told } = table(IPV4, lease("10.1.10.0-24", inside));
  const keys = () => [...peers.peers().keys()].sort();
  peers.set(peer("10.1.20.0-24", 1, { publicIP: "10.1.200.20" }));
  assert.deepEqual(keys(), ["10.1.20.0-24"]);
  const refused: [string, number, string, RegExp][] = [
    ["10.1.200.0-24", 2, "192.0.2.1", /contains this node's public address/],
    ["10.1.200.20-32", 3, "192.0.2.2", /contains the public address of 10\.1\.20\.0-24/],
    ["10.1.30.0-24", 4, "10.1.30.7", /lies in its own subnet/],
    ["10.1.31.0-24", 5, "10.1.10.7", /lies in this node's subnet/],
    ["10.1.32.0-24", 6, "10.1.20.7", /lies in 10\.1\.20\.0-24, which is older/],
  ];
  for (const [key, created, publicIP, reason] of refused) {
    assert(!peers.set(peer(key, created, { publicIP })), key);
    assert.match(told.at(-1)!, reason);
  }
  assert(peers.delete("10.1.20.0-24"));
  assert.deepEqual(keys(), ["10.1.200.20-32", "10.1.32.0-24"], "nothing is in their way now");
});

Deno.test("a flood in one stretch of the network costs it no more than its crowd", () => {
  const { peers, told } = table(DUAL, lease("10.1.10.0-24&fd00:1:0:a::-64", OURS));
  const count = 2_000;
  const key = (at: number) => `0.0.0.0-0&fd00:1:0:14::${at.toString(16)}-128`;
  for (let at = 1; at <= count; at++) peers.set(peer(key(at), at));
  assert.equal(peers.peers().size, CROWD);
  assert.match(told.at(-1)!, /64 older leases already share this part/);
  for (let at = 1; at <= count; at++) peers.delete(key(at));
  assert.equal(peers.peers().size, 0);
});

Deno.test("where no hosts live in the network, an address in another's subnet loses, older or not", () => {
  const { peers, told } = table();
  const keys = () => [...peers.peers().keys()].sort();
  peers.set(peer("10.1.20.0-24", 1, { publicIP: "10.1.30.9" }));
  assert.deepEqual(keys(), ["10.1.20.0-24"], "nobody has that subnet yet");
  assert(peers.set(peer("10.1.30.0-24", 2)));
  assert.deepEqual(keys(), ["10.1.30.0-24"]);
  assert.match(told.at(-1)!, /^10\.1\.20\.0-24: its public address lies in 10\.1\.30\.0-24$/);
  assert(peers.delete("10.1.30.0-24"));
  assert.deepEqual(keys(), ["10.1.20.0-24"]);
});

Deno.test("leases leave alone what is reached outside of the overlay", () => {
  const underlay = new Underlay({
    own: [
      { ip: "192.0.2.10", prefixLength: 24 },
      { ip: "10.1.200.10", prefixLength: 24 },
      { ip: "10.1.210.1", prefixLength: 31 },
    ],
    routers: ["10.1.200.1"],
  }, ["10.1.201.7"]);
  const { peers, told } = table(IPV4, undefined, { created: () => 9, underlay });
  const refused: [string, string, RegExp][] = [
    ["10.1.200.0-24", "192.0.2.1", /it contains an address of this node, 10\.1\.200\.10/],
    ["10.1.200.1-32", "192.0.2.1", /it contains this node's router, 10\.1\.200\.1/],
    ["10.1.201.0-29", "192.0.2.1", /it contains the address of etcd, 10\.1\.201\.7/],
    ["10.1.20.0-24", "10.1.200.10", /its public address 10\.1\.200\.10 is an address of this node/],
    ["10.1.21.0-24", "192.0.2.255", /is the broadcast address of 192\.0\.2\.0\/24/],
    ["10.1.22.0-24", "192.0.2.0", /is the first address of 192\.0\.2\.0\/24/],
  ];
  for (const [at, [key, publicIP, reason]] of refused.entries()) {
    assert(!peers.set(peer(key, at + 1, { publicIP })), key);
    assert.match(told.at(-1)!, reason);
  }
  const good: [string, string][] = [
    ["10.1.200.128-25", "192.0.2.1"],
    ["10.1.201.8-29", "192.0.2.2"],
    ["10.1.20.0-25", "10.1.210.0"],
  ];
  for (const [at, [key, publicIP]] of good.entries()) {
    assert(peers.set(peer(key, at + 20, { publicIP })), key);
  }
});

Deno.test("an older lease that stands against ours is told, whether or not it is refused here", () => {
  let created = 5;
  let contested = 0;
  const { peers } = table(IPV4, undefined, {
    created: () => created,
    clash: ({ attrs }) => attrs.backendType === "clash" ? "our name" : undefined,
    contested: () => contested++,
  });
  const superior = () => peers.superior()?.key;
  peers.set(peer("10.1.20.0-24", 7, { backendType: "clash" }));
  peers.set(peer("10.1.10.128-25", 8));
  assert.deepEqual([superior(), contested], [undefined, 2], "ours is older");
  created = 8;
  assert.deepEqual(peers.superior(), {
    key: "10.1.20.0-24",
    address: "192.0.2.20",
    what: "announces our name",
  });
  peers.delete("10.1.20.0-24");
  created = 9;
  assert.equal(superior(), "10.1.10.128-25");
  peers.set(peer("10.1.10.128-25", 8, { publicIP: "127.0.0.1" }));
  assert.equal(superior(), undefined, "all refuse it");
  peers.set(peer("10.1.21.0-24", 1, { backendType: "clash", publicIP: OURS.publicIP }));
  assert.equal(superior(), "10.1.21.0-24", "by our own address, which others take");
});
