import assert from "node:assert/strict";
import { bitRate, roundTrip, table } from "./format.ts";

Deno.test("rates have three digits and the fitting unit", () => {
  const expected: [number, string][] = [
    [0, "0 bit/s"],
    [999, "999 bit/s"],
    [1000, "1.00 kbit/s"],
    [12_340_000, "12.3 Mbit/s"],
    [999_600_000, "1.00 Gbit/s"],
    [15.1e9, "15.1 Gbit/s"],
    [2e12, "2000 Gbit/s"],
  ];
  for (const [rate, text] of expected) assert.equal(bitRate(rate), text);
});

Deno.test("round trips and tables", () => {
  assert.equal(roundTrip(0.0834), "0.08 ms");
  assert.equal(roundTrip(123.4), "123 ms");
  assert.equal(roundTrip(undefined), "no answer");
  assert.deepEqual(table([["A", "LONG"], ["bcd", "e"]]), ["A    LONG", "bcd  e"]);
});
