/**
 * What crosses the native library's edge, as both sides have it: the same files are compared with the
 * library's types by its own tests (`dataplane-rs/dataplane/src/wanted.rs`).
 */
import assert from "node:assert/strict";
import type { DataPlaneEvent, KernelChange, KernelState } from "./state.ts";

function fixture(name: string): unknown {
  const url = new URL(`../dataplane-rs/fixtures/${name}.json`, import.meta.url);
  return JSON.parse(Deno.readTextFileSync(url));
}

Deno.test("a kernel state as the library reads it", () => {
  const state: KernelState = {
    tunnel: {
      name: "flannel0",
      mtu: 1472,
      port: 8285,
      local: ["192.0.2.1", "2001:db8::1"],
      subnets: ["10.1.1.0/24"],
      peers: [{ subnets: ["10.1.2.0/24"], endpoint: "192.0.2.2" }],
    },
    links: [
      {
        kind: "vxlan",
        name: "flannel.1",
        vni: 1,
        mac: "02:00:00:00:00:01",
        mtu: 1450,
        lower: "eth0",
        local: "192.0.2.1",
        port: 8472,
        learning: false,
        gbp: false,
      },
      { kind: "bridge", name: "cni0", mtu: 1450 },
    ],
    addresses: [{ dev: "flannel.1", cidr: "10.1.1.0/32" }],
    routes: [
      { dst: "10.1.2.0/24", via: "10.1.2.0", dev: "flannel.1", onlink: true },
      { dst: "10.1.1.0/24", type: "blackhole", metric: 4000 },
      { dst: "fd00:1::/48", dev: "flannel0" },
    ],
    neighbours: [{ dev: "flannel.1", ip: "10.1.2.0", mac: "02:00:00:00:00:02" }],
    fdb: [{ dev: "flannel.1", mac: "02:00:00:00:00:02", dst: "192.0.2.2" }],
  };
  assert.deepEqual(state, fixture("kernel_state"));
});

Deno.test("a change as the library reads it", () => {
  const change: KernelChange = {
    put: {
      peers: [{ subnets: ["10.1.3.0/24"], endpoint: "192.0.2.3" }],
      routes: [{ dst: "10.1.3.0/24", via: "192.0.2.3", dev: "eth0" }],
      neighbours: [],
      fdb: [],
    },
    remove: {
      peers: [],
      routes: [],
      neighbours: [],
      fdb: [{ dev: "flannel.1", mac: "02:00:00:00:00:02", dst: "192.0.2.2" }],
    },
  };
  assert.deepEqual(change, fixture("kernel_change"));
});

Deno.test("events as the library writes them", () => {
  const events: DataPlaneEvent[] = [
    {
      type: "healed",
      report: {
        added: 1,
        changed: 0,
        removed: 2,
        kept: 3,
        errors: [{
          entry: "route 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink",
          errno: 101,
          message: "Network is unreachable",
        }],
        tables: { routes: { added: 1, changed: 0, removed: 2 } },
        entries: ["added route 10.1.3.0/24 dev eth0"],
        micros: 250,
      },
    },
    { type: "link", name: "eth0", up: true, mtu: 1500, present: true },
    { type: "address", dev: "eth0", cidr: "192.0.2.1/24", present: false },
    { type: "routes" },
    { type: "defaultRoute" },
    { type: "packetFilter" },
    { type: "error", message: "netlink failed" },
    { type: "tunnel", message: "stopped", failed: true },
  ];
  assert.deepEqual(events, fixture("events"));
});
