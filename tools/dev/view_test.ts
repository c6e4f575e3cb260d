import assert from "node:assert/strict";
import { type HostSample, leaseOf, metric, viewLine, viewLines } from "./view.ts";

const SAMPLE: HostSample = {
  host: "node1",
  agent: "ready",
  lease: "10.1.34.0/24",
  peers: 1,
  rx: 1_500_000,
  tx: undefined,
  rtt: undefined,
};

Deno.test("the view is a row a host, or one line of all", () => {
  const dead = { ...SAMPLE, host: "node2", agent: "ended", lease: undefined, peers: undefined };
  const [heading, first, second] = viewLines([SAMPLE, dead]);
  assert.match(heading, /^HOST +AGENT +LEASE +PEERS +RECEIVES +SENDS +PING NEXT$/);
  assert.match(first, /^node1 +ready +10\.1\.34\.0\/24 +1 +1\.50 Mbit\/s +- +no answer$/);
  assert.match(second, /^node2 +ended +none +\? /);
  assert.match(viewLine([SAMPLE, dead]), /^node1 ready, lease 10\.1.*peers 1.* \| node2 ended/);
});

Deno.test("metrics are read by name, labels or not", () => {
  const text = '# TYPE a gauge\na 1\nab 2\nc_total{backend="vxlan"} 3\n';
  assert.equal(metric(text, "a"), 1);
  assert.equal(metric(text, "ab"), 2);
  assert.equal(metric(text, "c_total"), 3);
  assert.equal(metric(text, "nothere"), undefined);
});

Deno.test("a dual-stack lease has a half for each family", () => {
  assert.equal(leaseOf("10.1.34.0-24&fd00:1::-64", "192.0.2.1"), "10.1.34.0/24");
  assert.equal(leaseOf("0.0.0.0-0&fd00:1::-64", "fd77::11"), "fd00:1::/64");
  assert.equal(leaseOf("10.1.34.0-24", "192.0.2.1"), "10.1.34.0/24");
});
