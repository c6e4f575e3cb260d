/** A short mix of faults, with what a longer run of `deno task faults` holds against the agent. */
import assert from "node:assert/strict";
import { FAULTS } from "./catalogue.ts";
import { isClean, stepFailures, stepLine } from "./report.ts";
import { runFaults } from "./run.ts";

/** Those that take their time. */
const LONG = /clock|cut off|in the config/;
/** For the backend whose packets pass through the agent. */
const UDP = /kill -9|device deleted|all etcd down$/;

for (
  const { backend, minutes, seed, chosen } of [
    { backend: "vxlan", minutes: 1.2, seed: 1, chosen: (name: string) => !LONG.test(name) },
    { backend: "udp", minutes: 0.3, seed: 2, chosen: (name: string) => UDP.test(name) },
  ] as const
) {
  Deno.test(`a mix of faults costs no packet of those it does not touch, ${backend}`, async () => {
    const faults = FAULTS.filter(({ name }) => chosen(name));
    const options = { agent: "ours", backend, ttl: 10, outage: 8, seed, minutes } as const;
    const report = await runFaults({ ...options, command: "", alone: [], mix: faults });
    const { mix, lostBetween, historyGap, leftovers } = report;
    assert.ok(mix.length >= 2);
    assert.ok(report.packetsSent > 1_000);
    assert.deepEqual(mix.filter((step) => stepFailures(step).length > 0).map(stepLine), []);
    assert.deepEqual({ lostBetween, historyGap, leftovers }, {
      lostBetween: 0,
      historyGap: "",
      leftovers: [],
    });
    assert.ok(isClean(report));
  });
}
