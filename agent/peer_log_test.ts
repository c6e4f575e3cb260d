import assert from "node:assert/strict";
import { Cidr } from "../base/cidr.ts";
import type { Lease } from "../subnet/types.ts";
import { LogCapture } from "../testbed/log.ts";
import { PeerLog } from "./peer_log.ts";

const NONE: ReadonlySet<string> = new Set();

function lease(number: number, publicIP = `192.0.2.${number % 250}`, mac = "02:00:00:00:00:01") {
  const subnet = Cidr.parse(`10.${1 + (number >> 8)}.${number & 255}.0/24`);
  return {
    key: `${subnet.address}-24`,
    subnet,
    ipv6Subnet: null,
    attrs: {
      publicIP,
      publicIPv6: null,
      backendType: "vxlan",
      backendData: { VNI: 1, VtepMAC: mac },
    },
    expiration: null,
    revision: "7",
  } satisfies Lease;
}

function peers(...leases: Lease[]): ReadonlyMap<string, Lease> {
  return new Map(leases.map((one) => [one.key, one]));
}

/** The lines about what the peers become, one state after the other. */
function linesFor(
  ...states: {
    peers: ReadonlyMap<string, Lease>;
    skipped?: ReadonlySet<string>;
    mended?: string[];
  }[]
): string[][] {
  using log = new LogCapture();
  const peerLog = new PeerLog();
  return states.map(({ peers, skipped = NONE, mended = [] }) => {
    peerLog.mended(mended);
    peerLog.note(peers, skipped);
    peerLog.close();
    return log.lines.splice(0);
  });
}

Deno.test("a line when a peer appears, changes and leaves", () => {
  const lines = linesFor(
    { peers: peers(lease(5)) },
    { peers: peers(lease(5)) },
    { peers: peers(lease(5, "192.0.2.77", "02:00:00:00:00:02")) },
    { peers: peers() },
  );
  assert.deepEqual(lines, [
    ["I Peer 10.1.5.0/24 (192.0.2.5) appeared"],
    [],
    [
      "I Peer 10.1.5.0/24 (192.0.2.77) changed: public address from 192.0.2.5 to 192.0.2.77, " +
      "VTEP MAC from 02:00:00:00:00:01 to 02:00:00:00:00:02",
    ],
    ["I Peer 10.1.5.0/24 (192.0.2.77) left"],
  ]);
});

Deno.test("a peer that was skipped is logged once it is reachable", () => {
  const [five, six] = [lease(5), lease(6)];
  const lines = linesFor(
    { peers: peers(five), skipped: new Set([five.key]) },
    { peers: peers(lease(5), six), mended: [six.key] },
  );
  assert.deepEqual(lines, [[], [
    "I Peer 10.1.5.0/24 (192.0.2.5) is now reachable",
    "I Peer 10.1.6.0/24 (192.0.2.6) is now reachable",
  ]]);
});

Deno.test("thousands of peers, and those that come and go, do not fill the log", () => {
  const many = peers(...Array.from({ length: 5_000 }, (_, number) => lease(number)));
  const [start, ...churn] = linesFor(
    { peers: many },
    ...Array.from({ length: 100 }, (_, round) => ({ peers: round % 2 ? many : peers() })),
  );
  assert.equal(start.length, 101);
  assert.equal(
    start.at(-1),
    "I And more peers: 4900 appeared; run 'flanneld peers' to list all",
  );
  // Each of these is what comes within a second; close() writes its summary at once.
  assert.ok(churn.flat().length <= 110, `${churn.flat().length} lines`);
  assert.equal(churn[0].at(-1), "I And more peers: 5000 left; run 'flanneld peers' to list all");
});

Deno.test("what a peer announces cannot make a long line", () => {
  const long = lease(5, "192.0.2.5", "x".repeat(10_000));
  const data = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`k${n}`.repeat(50), n]));
  const wide = {
    ...long,
    attrs: { ...long.attrs, backendType: "y".repeat(10_000), backendData: data },
  };
  const lines = linesFor({ peers: peers(lease(5)) }, { peers: peers(long) }, {
    peers: peers(wide),
  });
  assert.ok(lines.flat().every((line) => line.length < 1_500), lines.flat().join("\n"));
});
