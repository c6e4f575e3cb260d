import assert from "node:assert/strict";
import { Budget, Reports } from "./reports.ts";

/** Reports with this budget, and what was written. */
function reports(burst: number) {
  const lines: string[] = [];
  const left: string[] = [];
  const log = {
    line: (key: string, reason: string) => lines.push(`${key} ${reason}`),
    leftOut: (count: number, key: string, reason: string) => left.push(`${count} ${key} ${reason}`),
  };
  return { lines, left, reports: new Reports(log, new Budget(burst, 0.001)) };
}

Deno.test("a few lines are written at once, many in slices, none twice or lost", async () => {
  const { lines, left, reports: all } = reports(10_000);
  all.add("first", "it is bad");
  assert.deepEqual(lines, ["first it is bad"]);
  for (let at = 0; at < 600; at++) all.add(`key${at}`, "");
  assert(lines.length < 400, "the caller is not held up");
  const limit = performance.now() + 5_000;
  while (lines.length < 601 && performance.now() < limit) {
    await new Promise((done) => setTimeout(done, 10));
  }
  assert.equal(new Set(lines).size, 601);
  all.close();
  assert.deepEqual([lines.length, left], [601, []]);
});

Deno.test("what is beyond the budget is counted", () => {
  const { lines, left, reports: all } = reports(5);
  for (let at = 0; at < 100_000; at++) all.add(`key${at}`, "no");
  all.close();
  assert.equal(lines.length, 5);
  assert.deepEqual(left, ["99995 key99999 no"]);
});

Deno.test("a budget is earned back", async () => {
  const budget = new Budget(1, 100);
  assert.deepEqual([budget.take(), budget.take()], [true, false]);
  await new Promise((done) => setTimeout(done, 30));
  assert.equal(budget.take(), true);
});

Deno.test("a lease that flips is counted after ten lines, and the others get theirs", () => {
  const { lines, left, reports: all } = reports(10_000);
  for (let at = 0; at < 1_000; at++) all.add("flips", `for the ${at}th time`);
  all.add("another", "once");
  all.close();
  assert.equal(lines.length, 11);
  assert.equal(lines.at(-1), "another once");
  assert.deepEqual(left, ["990 flips for the 999th time"]);
});
