import assert from "node:assert/strict";
import { fail, pass, warn } from "../backends/finding.ts";
import { run } from "./check.ts";
import { reportOf } from "./report.ts";

Deno.test("a check that hangs is a failure with what it found before", async () => {
  const { promise: never, resolve } = Promise.withResolvers<void>();
  const found = await run({
    area: "peers",
    limitMs: 30,
    async *run() {
      yield pass("peers", "1 of 2 answer");
      await never;
      yield pass("peers", "too late");
    },
  });
  resolve();
  await never;
  assert.deepEqual(found.map(({ verdict, detail }) => [verdict, detail]), [
    ["pass", "1 of 2 answer"],
    ["fail", "not known: the check timed out after 0.03 s"],
  ]);
});

Deno.test("a check that throws is a failure in one line", async () => {
  const found = await run({
    area: "rules",
    async *run() {
      yield warn("rules", "odd");
      await Promise.reject(new Error("iptables-save: status 4:\n  no right  "));
    },
  });
  assert.deepEqual(found.at(-1), {
    ...fail("rules", "iptables-save: status 4:; no right"),
    area: "rules",
  });
});

Deno.test("the report counts verdicts, and has null for no remedy", () => {
  const report = reportOf([
    { ...pass("etcd", "answers"), area: "etcd" },
    { ...fail("etcd", "is away", "start it"), area: "etcd" },
  ]);
  assert.deepEqual(report.summary, { pass: 1, warn: 0, fail: 1 });
  assert.deepEqual(report.findings.map(({ fix }) => fix), [null, "start it"]);
});
