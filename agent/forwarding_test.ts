import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import type { Backend } from "../backends/types.ts";
import type {
  ApplyReport,
  KernelChange,
  KernelState,
  RouteLookup,
  RouteState,
} from "../dataplane/state.ts";
import type { Lease } from "../subnet/types.ts";
import { type Applier, Forwarding } from "./forwarding.ts";
import { Status } from "./status.ts";

const OURS: Lease = {
  key: "ours",
  subnet: null,
  ipv6Subnet: null,
  attrs: { publicIP: null, publicIPv6: null, backendType: "" },
  expiration: null,
  revision: "1",
};

/** A backend with a route a peer; a peer named `bad` is skipped, and `rival` for another's sake. */
const BACKEND: Backend = {
  type: "test",
  additive: true,
  summary: "",
  mtu: 1500,
  attrs: OURS.attrs,
  devices: [],
  state: (_lease, peers) => {
    const keys = [...peers].map((peer) => peer.key);
    const bad = (key: string) => key === "bad" || key === "rival";
    return {
      kernel: {
        links: [],
        addresses: [],
        routes: keys.filter((key) => !bad(key)).map((dst) => ({ dst })),
        neighbours: [],
        fdb: [],
      },
      skipped: keys.filter(bad).map((key) => ({
        key,
        reason: "it is bad",
        ...(key === "rival" ? { conflict: true } : {}),
      })),
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

/** A data plane that only applies whole states. */
function whole(apply: Applier["apply"]): Applier {
  return { apply, change: () => Promise.resolve(undefined), routesTo: () => [] };
}

function report(more: Partial<ApplyReport> = {}): ApplyReport {
  return {
    added: 0,
    changed: 0,
    removed: 0,
    kept: 0,
    errors: [],
    tables: {},
    entries: [],
    micros: 1,
    ...more,
  };
}

Deno.test("one apply at a time, and always the newest wish last", async () => {
  const applied: string[][] = [];
  let running = 0;
  const release = Promise.withResolvers<void>();
  const forwarding = new Forwarding(
    whole(async (state: KernelState) => {
      assert.equal(++running, 1);
      applied.push(state.routes.map((route) => route.dst));
      await release.promise;
      running--;
      return report();
    }),
    new Status(),
  );
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
  const forwarding = new Forwarding(whole(() => Promise.resolve().then(answer)), status);
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

/** What a data plane was told, and whether it takes changes. */
class Recorder implements Applier {
  readonly told: string[] = [];
  takes = true;
  readonly routes = new Map<string, RouteLookup>();

  apply(state: KernelState): Promise<ApplyReport> {
    this.told.push(`all: ${list(state.routes)}`);
    return Promise.resolve(report());
  }

  change({ put, remove }: KernelChange): Promise<ApplyReport | undefined> {
    this.told.push(`put: ${list(put.routes)}, remove: ${list(remove.routes)}`);
    return Promise.resolve(this.takes ? report() : undefined);
  }

  routesTo(ips: readonly string[]): (RouteLookup | undefined)[] {
    this.told.push(`look up: ${ips.join(" ")}`);
    return ips.map((ip) => this.routes.get(ip));
  }
}

function list(routes: RouteState[]): string {
  return routes.map(({ dst }) => dst).join(" ");
}

/** The first with other peers: those named keep their lease objects. */
function next(from: ReturnType<typeof wish>, ...keys: string[]): ReturnType<typeof wish> {
  const peers = keys.map((key): [string, Lease] => [key, from.peers.get(key) ?? { ...OURS, key }]);
  return { ...from, peers: new Map(peers) };
}

Deno.test("only what changed is applied, after a whole apply without any complaint", async () => {
  const recorder = new Recorder();
  const forwarding = new Forwarding(recorder, new Status());
  const first = wish("a", "b");
  const second = next(first, "a", "c", "d");
  for (
    const one of [first, second, next(second, "a", "bad"), next(second, "a"), next(first, "a")]
  ) {
    await forwarding.want(one);
  }
  assert.deepEqual(recorder.told, [
    "all: a b",
    "put: c d, remove: b",
    "put: , remove: c d",
    "put: , remove: ",
    "put: , remove: ",
  ]);
  await forwarding.close();
});

Deno.test("a skipped peer costs no whole applies, unless others decide whether it is skipped", async () => {
  const recorder = new Recorder();
  const status = new Status();
  const forwarding = new Forwarding(recorder, status);
  const first = wish("a", "bad");
  await forwarding.want(first);
  await forwarding.want(next(first, "a", "b", "bad"));
  assert.deepEqual([status.leases, status.peers, status.skippedPeers], [4, 2, 1]);
  await forwarding.want(next(first, "a"));
  assert.equal(status.skippedPeers, 0);
  const second = next(first, "a", "rival");
  await forwarding.want(second);
  await forwarding.want(next(second, "a", "b", "rival"));
  assert.deepEqual(recorder.told, [
    "all: a",
    "put: b, remove: ",
    "put: , remove: b",
    "all: a",
    "all: a b",
  ]);
  await forwarding.close();
});

Deno.test("a change that the data plane does not take is applied whole, and so is the next start", async () => {
  const recorder = new Recorder();
  const status = new Status();
  const forwarding = new Forwarding(recorder, status);
  const first = wish("a");
  await forwarding.want(first);
  recorder.takes = false;
  await forwarding.want(next(first, "a", "b"));
  assert.deepEqual(recorder.told, ["all: a", "put: b, remove: ", "all: a b"]);
  assert.equal(status.peers, 2);
  await forwarding.want(wish("a", "b"));
  await forwarding.again();
  assert.deepEqual(recorder.told.slice(3), ["all: a b", "all: a b"]);
  await forwarding.close();
});

Deno.test("a backend that follows routes: looked up once a peer, all again when routes change", async () => {
  const recorder = new Recorder();
  const forwarding = new Forwarding(recorder, new Status());
  const backend: Backend = {
    ...BACKEND,
    followsRoutes: true,
    state: (lease, peers, routeTo) =>
      BACKEND.state(lease, [...peers].filter(({ attrs }) => routeTo(attrs.publicIP!)), routeTo),
  };
  const peer = (key: string): [string, Lease] => [
    key,
    { ...OURS, key, attrs: { ...OURS.attrs, publicIP: `ip-${key}` } },
  ];
  const [a, b] = [peer("a"), peer("b")];
  const route = { dev: "eth0", resolves: true };
  recorder.routes.set("ip-a", route).set("ip-b", route);
  const first = { ...wish(), backend, peers: new Map([a]) };
  await forwarding.want(first);
  await forwarding.want({ ...first, peers: new Map([a, b]) });
  // A change of routes that lead to no peer.
  await forwarding.routesChanged();
  recorder.routes.delete("ip-a");
  await forwarding.routesChanged();
  await forwarding.want({ ...first, peers: new Map([b]) });
  assert.deepEqual(recorder.told, [
    ...["look up: ip-a", "all: a"],
    ...["look up: ip-b", "put: b, remove: "],
    "look up: ip-a ip-b",
    ...["look up: ip-a ip-b", "all: b"],
    "put: , remove: ",
  ]);
  await forwarding.close();
});

Deno.test("an attempt that makes and removes a device is not repeated for that", async () => {
  let attempts = 0;
  const events: Promise<void>[] = [];
  const forwarding: Forwarding = new Forwarding(
    whole(() => {
      attempts++;
      // What the kernel tells of the attempt's own device.
      for (const delay of [0, 20]) setTimeout(() => events.push(forwarding.linksChanged()), delay);
      const error = { entry: "tunnel t0", errno: 98, message: "the port is in use" };
      return Promise.resolve(report({ errors: [error] }));
    }),
    new Status(),
  );
  await forwarding.want({ ...wish("a"), backend: { ...BACKEND, devices: ["t0"] } });
  await new Promise((done) => setTimeout(done, 500));
  assert.equal(attempts, 1);
  assert.match(forwarding.devices.problem() ?? "", /port is in use/);
  await forwarding.close();
  await Promise.all(events);
});

Deno.test("a device's error is logged, those of entries on it are not", async () => {
  const lines: string[] = [];
  await configure({
    reset: true,
    sinks: { list: ({ message }: LogRecord) => void lines.push(message.join("")) },
    loggers: [
      { category: "flanneld", lowestLevel: "info", sinks: ["list"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["list"] },
    ],
  });
  const link = { entry: "link t0 type vxlan", errno: 98, message: "the port is in use" };
  const route = { entry: "route 10.1.2.0/24 dev t0", errno: 100, message: "Network is down" };
  let errors = [link, route];
  const forwarding = new Forwarding(
    whole(() => Promise.resolve(report({ errors }))),
    new Status(),
  );
  try {
    const wanted = { ...wish("a"), backend: { ...BACKEND, devices: ["t0"] } };
    await forwarding.want(wanted);
    errors = [route];
    await forwarding.want({ ...wanted });
    // What was logged is not said to have recovered only because its device failed.
    errors = [link, route];
    await forwarding.want({ ...wanted });
    errors = [];
    await forwarding.want({ ...wanted });
  } finally {
    await forwarding.close();
    await reset();
  }
  const [ofLink, ofRoute] = [link, route].map(({ entry, message }) => `${entry}: ${message}`);
  assert.deepEqual(lines.filter((line) => /Cannot set|Recovered/.test(line)), [
    `Cannot set ${ofLink}`,
    `Cannot set ${ofRoute}`,
    `Recovered: ${ofLink}`,
    `Cannot set ${ofLink}`,
    `Recovered: ${ofLink}`,
    `Recovered: ${ofRoute}`,
  ]);
});
