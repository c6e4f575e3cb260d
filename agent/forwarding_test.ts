import assert from "node:assert/strict";
import type { Backend } from "../backends/types.ts";
import type { ApplyReport, KernelState } from "../dataplane/state.ts";
import type { Lease } from "../subnet/types.ts";
import { Forwarding } from "./forwarding.ts";
import { Status } from "./status.ts";

const OURS: Lease = {
  key: "ours",
  subnet: null,
  ipv6Subnet: null,
  attrs: { publicIP: null, publicIPv6: null, backendType: "" },
  expiration: null,
  revision: "1",
};

/** A backend with a route a peer; a peer named `bad` is skipped. */
const BACKEND: Backend = {
  type: "test",
  summary: "",
  mtu: 1500,
  attrs: OURS.attrs,
  devices: [],
  state: (_lease, peers) => {
    const keys = [...peers].map((peer) => peer.key);
    return {
      kernel: {
        links: [],
        addresses: [],
        routes: keys.filter((key) => key !== "bad").map((dst) => ({ dst })),
        neighbours: [],
        fdb: [],
      },
      skipped: keys.filter((key) => key === "bad").map((key) => ({ key, reason: "it is bad" })),
    };
  },
};

function wish(...keys: string[]) {
  return {
    backend: BACKEND,
    lease: OURS,
    peers: new Map(keys.map((key) => [key, { ...OURS, key }])),
    node: { mtu: 1500, blackholeRoute: false },
  };
}

function report(more: Partial<ApplyReport> = {}): ApplyReport {
  return { added: 0, changed: 0, removed: 0, kept: 0, errors: [], micros: 1, ...more };
}

Deno.test("one apply at a time, and always the newest wish last", async () => {
  const applied: string[][] = [];
  let running = 0;
  const release = Promise.withResolvers<void>();
  const forwarding = new Forwarding({
    apply: async (state: KernelState) => {
      assert.equal(++running, 1);
      applied.push(state.routes.map((route) => route.dst));
      await release.promise;
      running--;
      return report();
    },
  }, new Status());
  const first = forwarding.want(wish("a"));
  forwarding.want(wish("a", "b"));
  forwarding.want(wish("a", "b", "c"));
  release.resolve();
  await first;
  assert.deepEqual(applied, [["a"], ["a", "b", "c"]], "what came meanwhile is taken together");
  await forwarding.close();
});

Deno.test("skipped peers and refused entries are counted, an apply that throws is survived", async () => {
  const status = new Status();
  let answer: () => ApplyReport = report;
  const forwarding = new Forwarding({ apply: () => Promise.resolve().then(answer) }, status);
  await forwarding.want(wish("a", "bad"));
  assert.deepEqual([status.leases, status.peers, status.skippedPeers], [3, 1, 1]);
  answer = () => report({ errors: [{ entry: "route a", errno: 22, message: "Invalid argument" }] });
  await forwarding.want(wish("a"));
  assert.deepEqual([status.failedEntries, status.backendErrors], [1, 1]);
  answer = () => {
    throw new Error("socket closed");
  };
  await forwarding.want(wish("a"));
  assert.deepEqual([status.failedEntries, status.backendErrors, status.reconciles], [1, 2, 3]);
  answer = report;
  await forwarding.want(wish("a"));
  assert.equal(status.failedEntries, 0);
  await forwarding.close();
});
