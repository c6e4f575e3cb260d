import { equal, ok } from "node:assert/strict";
import { trend } from "./trend.ts";

Deno.test("a line has its slope and no error", () => {
  const { slope, error } = trend([[0, 10], [1, 12], [2, 14], [4, 18]]);
  equal(slope, 2);
  equal(error, 0);
});

Deno.test("values that go up and down have no slope", () => {
  const { slope, error } = trend([[0, 5], [1, 7], [2, 5], [3, 7], [4, 5]]);
  equal(slope, 0);
  ok(error > 0.3 && error < 0.5, String(error));
});
