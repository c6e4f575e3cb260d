import assert from "node:assert/strict";
import { IFACE, input, lease } from "../backends/testing.ts";
import { create } from "../backends/vxlan/mod.ts";
import type { HostSource } from "../hostcheck/facts.ts";
import { HostWarnings, type WarnedHost } from "./host_warnings.ts";

const PEER = lease("10.1.34.0/24", {
  publicIP: "192.0.2.20",
  backendType: "vxlan",
  backendData: { VNI: 1, VtepMAC: "0a:00:00:00:00:01" },
});

function host(...peers: typeof PEER[]): WarnedHost {
  const { network } = input({ Type: "vxlan" });
  return {
    network,
    backend: BACKEND,
    iface: IFACE,
    lease: lease("10.1.72.0/24", { publicIP: IFACE.publicIP }),
    peers: new Map(peers.map((peer) => [peer.key, peer])),
  };
}

const BACKEND = create(input({ Type: "vxlan" }));

/** A kernel that counts the checks, one of which fails. */
function kernel(looks: string[]): HostSource {
  return {
    interfaces: () => Promise.resolve([]),
    defaultRoutes: () => Promise.resolve([]),
    routesTo: (ips) => ips.map(() => undefined),
    otherAgent: () => Promise.resolve(null),
    overlaps: () => {
      looks.push("overlaps");
      return Promise.reject(new Error("netlink failed"));
    },
    reversePath: (flows) => {
      looks.push(`flows ${flows.map(({ src, dev }) => `${src} ${dev}`).join(", ")}`);
      return Promise.resolve(flows.map(() => ({ dropped: false, filter: 1 })));
    },
  };
}

/** Lets what was begun come to its end. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("the host is looked at after the start, once, and once more with the first peers", async () => {
  const looks: string[] = [];
  const warnings = new HostWarnings(kernel(looks));
  warnings.want(host());
  await settle();
  assert.deepEqual(looks, [], "not before the agent is ready");
  warnings.begin();
  await settle();
  assert.deepEqual(looks, ["overlaps"], "a check that fails ends nothing");
  warnings.want(host());
  await settle();
  assert.deepEqual(looks, ["overlaps"]);
  warnings.want(host(PEER));
  await settle();
  const flows = "flows 192.0.2.20 eth0, 10.1.34.1 flannel.1";
  assert.deepEqual(looks, ["overlaps", "overlaps", flows]);
  warnings.want(host(PEER, { ...PEER, key: "other" }));
  await settle();
  assert.equal(looks.length, 3, "more peers are no reason to look again");
});
