import assert from "node:assert/strict";
import { Ledger } from "./ledger.ts";

const pair = { from: 0, to: 1 };

Deno.test("a lost packet is counted and dated, and the pair works since the one after it", () => {
  const ledger = new Ledger(2);
  const start = Date.now() - 60_000;
  const times = Array.from({ length: 100 }, (_, number) => start + 50 * number);
  ledger.sent(pair, 0, times.slice(0, 40));
  ledger.sent(pair, 40, times.slice(40));
  for (let number = 0; number < 100; number++) {
    if (number < 30 || number > 32) ledger.arrived(pair, number, times[number] + 1);
  }
  assert.deepEqual(ledger.losses(pair, { since: start, until: start + 60_000 }), {
    sent: 100,
    lost: [times[30], times[31], times[32]],
    longestGap: 150,
  });
  assert.deepEqual(ledger.losses(pair, { since: times[33], until: start + 60_000 }).lost, []);
  assert.equal(ledger.worksSince(pair, start, 10), times[33]);
  assert.equal(ledger.worksSince(pair, times[90], 10), times[90]);
  assert.equal(ledger.worksSince(pair, times[91], 10), undefined);
});

Deno.test("what is lost at the end is lost, what is on its way is not", () => {
  const ledger = new Ledger(2);
  const now = Date.now();
  const times = [now - 5_000, now - 4_950, now - 4_900, now - 10];
  ledger.sent(pair, 0, times);
  ledger.arrived(pair, 0, times[0]);
  assert.equal(ledger.worksSince(pair, 0, 1), undefined);
  for (const number of [1, 2]) ledger.arrived(pair, number, times[number]);
  assert.equal(ledger.worksSince(pair, 0, 3), times[0]);
});
