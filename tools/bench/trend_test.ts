import { equal, ok } from "node:assert/strict";
import { trend, trendOfParts } from "./trend.ts";

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

Deno.test("a saw's teeth within a part are no uncertainty of the trend", () => {
  const saw = Array.from({ length: 600 }, (_, at): [number, number] => [at, at % 20]);
  const flat = trendOfParts(saw, 30);
  ok(Math.abs(flat.slope) < 1e-9 && flat.interval < 1e-9, JSON.stringify(flat));
  const rising = saw.map(([time, value]): [number, number] => [time, value + time / 10]);
  const { slope, interval } = trendOfParts(rising, 30);
  ok(Math.abs(slope - 0.1) < 1e-9 && interval < 1e-9, String(slope));
});
