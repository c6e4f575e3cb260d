/**
 * Hostile data at the door: 100,000 leases and as many configs, read and judged without a store.
 * `HOSTILE_SEED` repeats a run, `HOSTILE_COUNT` makes it longer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { validateBackendConfig } from "../../backends/registry.ts";
import { DUAL, input, routeTo } from "../../backends/testing.ts";
import { create } from "../../backends/vxlan/mod.ts";
import { fits, pickSubnets } from "../../subnet/allocate.ts";
import { type Cidr, isLoopback, isUnicast, parseIp } from "../../base/cidr.ts";
import { ConfigError, type NetworkConfig, parseNetworkConfig } from "../../subnet/config.ts";
import { EtcdClient } from "../../subnet/etcd/client.ts";
import { LeaseStore, type StoredLease } from "../../subnet/etcd/store.ts";
import type { Lease } from "../../subnet/types.ts";
import { PeerTable } from "../../subnet/validate.ts";
import { hostileConfig, HostileLeases, Random, type Victim } from "./generate.ts";
import { COUNT, SEED } from "./settings.ts";

const VICTIMS: Victim[] = [1, 2, 3].map((host) => ({
  key: `10.1.${host}0.0-24`,
  publicIP: `192.168.77.1${host}`,
  mac: `02:00:00:00:01:0${host}`,
}));

/** Longest line that a single lease may cause, in characters. */
const LONGEST_LINE = 400;

const STORE = new LeaseStore(new EtcdClient({ endpoints: ["http://127.0.0.1:1"] }), "/n");

function read(key: Uint8Array, value: Uint8Array, revision: number): StoredLease {
  return STORE.read({
    key: Buffer.concat([STORE.leases.key, key]),
    value: Buffer.from(value),
    create_revision: `${revision}`,
    mod_revision: `${revision}`,
    version: "1",
    lease: "0",
  });
}

function victim({ key, publicIP, mac }: Victim, created: number): StoredLease {
  const value = {
    PublicIP: publicIP,
    PublicIPv6: `2001:db8::${created}`,
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: mac },
    BackendV6Data: { VNI: 1, VtepMAC: mac },
  };
  const encoder = new TextEncoder();
  return read(encoder.encode(key), encoder.encode(JSON.stringify(value)), created);
}

/** What must hold of whatever comes through, whatever was there. */
function assertSound(network: NetworkConfig, own: Lease, peers: ReadonlyMap<string, Lease>): void {
  for (
    const [family, subnetOf, ipOf] of [
      [network.ipv4, (lease: Lease) => lease.subnet, ({ attrs }: Lease) => attrs.publicIP],
      [network.ipv6, (lease: Lease) => lease.ipv6Subnet, ({ attrs }: Lease) => attrs.publicIPv6],
    ] as const
  ) {
    if (family === null) continue;
    const subnets: Cidr[] = [];
    for (const [key, lease] of peers) {
      const subnet = subnetOf(lease);
      if (subnet === null) continue;
      subnets.push(subnet);
      assert(family.network.contains(subnet), `${key} is in the network`);
      assert(subnet.length >= family.subnetLength, `${key} is no larger than a subnet`);
      assert(!subnetOf(own)?.overlaps(subnet), `${key} does not overlap ours`);
      const ip = parseIp(ipOf(lease) ?? "none");
      assert.equal(ip.family, family.network.family);
      assert(isUnicast(ip) && !isLoopback(ip), `${key} has a unicast address`);
      assert.notEqual(ipOf(lease), ipOf(own), `${key} does not have our address`);
      assert(
        !subnet.containsIp(ip) && !subnetOf(own)?.containsIp(ip),
        `${key} has no address inside`,
      );
    }
    subnets.sort((a, b) => (a.base < b.base ? -1 : 1));
    for (const [at, subnet] of subnets.slice(1).entries()) {
      assert(!subnet.overlaps(subnets[at]), `${subnet} does not overlap ${subnets[at]}`);
    }
  }
}

/** Puts leases into a table one by one, changes and deletes some, and checks as it goes. */
function judge(network: NetworkConfig, count: number, seed: number, victims: Victim[]) {
  const [own, ...good] = victims.map((one, at) => victim(one, at + 1));
  const told = new Map<string, Set<string>>();
  const table = new PeerTable(network, own.lease!, (key, reason) => {
    if (reason === undefined) return;
    const reasons = told.get(key) ?? new Set();
    told.set(key, reasons.add(reason));
    assert(`${key}${reason}`.length < LONGEST_LINE, `${key}: ${reason}`);
  });
  assert(table.replace(good));
  const random = new Random(seed);
  const leases = new HostileLeases(random, victims);
  const there = new Map<string, StoredLease>(good.map((stored) => [stored.key, stored]));
  const names = new Map<string, string>();
  for (let revision = 100; revision < 100 + count; revision++) {
    const { key, value } = leases.next();
    const stored = read(key, value, revision);
    const hex = Buffer.from(key).toString("hex");
    assert.equal(names.get(stored.key) ?? hex, hex, "different keys have different names");
    names.set(stored.key, hex);
    assert.match(stored.key, /^[\x20-\x7e…]{0,300}$/);
    if (good.some((one) => one.key === stored.key) || stored.key === own.key) continue;
    // A write to a key that is there leaves its creation.
    const created = there.get(stored.key)?.created ?? revision;
    there.set(stored.key, { ...stored, created });
    table.set({ ...stored, created });
    if (random.chance(0.05)) {
      const gone = random.pick([...names.keys()].slice(-50));
      if (!good.some((one) => one.key === gone)) {
        there.delete(gone);
        table.delete(gone);
      }
    }
    if (revision % 5_000 === 0) assertSound(network, own.lease!, table.peers());
  }
  const peers = table.peers();
  assertSound(network, own.lease!, peers);
  const { publicIP } = own.lease!.attrs;
  for (const { key } of good) assert(peers.has(key), `${key} is a peer still`);
  const again = new PeerTable(network, own.lease!, () => {});
  again.replace(there.values());
  assert.deepEqual([...again.peers().keys()], [...peers.keys()], "the way there does not matter");
  for (const [key, { lease }] of there) {
    if (!peers.has(key)) assert(told.has(key), `${key} was told of (${lease}, ${publicIP})`);
  }
  return { own: own.lease!, good, peers };
}

for (const [name, network] of Object.entries({ IPv4: undefined, "both families": DUAL })) {
  Deno.test(`${COUNT} hostile leases, ${name}: what passes is sound, and no peer loses its own`, () => {
    const victims = network
      ? VICTIMS.map((one, at) => ({ ...one, key: `${one.key}&fd00:1:0:${at + 1}0::-64` }))
      : VICTIMS;
    const given = input({ Type: "vxlan" }, network);
    console.log(`HOSTILE_SEED=${SEED}`);
    const { own, good, peers } = judge(given.network, COUNT, SEED, victims);
    const { kernel } = create(given).state(own, peers.values(), routeTo);
    for (const { lease } of good) {
      const { VtepMAC } = lease!.attrs.backendData as { VtepMAC: string };
      const entry = kernel.fdb.filter(({ mac }) => mac === VtepMAC);
      assert(entry.length > 0, `${lease!.key} is carried`);
      for (const { dst } of entry) {
        assert([lease!.attrs.publicIP, lease!.attrs.publicIPv6].includes(dst), `${VtepMAC} ${dst}`);
      }
    }
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
    assert.equal(({} as Record<string, unknown>).PublicIP, undefined);
  });
}

Deno.test(`${COUNT} hostile configs: refused in one line, or sound`, async () => {
  const random = new Random(SEED);
  console.log(`HOSTILE_SEED=${SEED}`);
  let sound = 0;
  for (let made = 0; made < COUNT; made++) {
    const text = hostileConfig(random);
    try {
      const config = parseNetworkConfig(text);
      assert(config.warnings.length < 20 && config.warnings.join("").length < 2_000);
      assert(fits(config, pickSubnets(config, [], random.next)), text);
      await validateBackendConfig(config);
      sound++;
    } catch (error) {
      if (!(error instanceof ConfigError)) {
        throw new Error(`${text.slice(0, 500)}`, { cause: error });
      }
      assert(error.message.length < LONGEST_LINE, error.message);
    }
  }
  assert(sound > COUNT / 20 && sound < COUNT, `${sound} are sound`);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});
