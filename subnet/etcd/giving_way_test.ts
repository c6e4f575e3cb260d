import assert from "node:assert/strict";
import { GivingWay } from "./giving_way.ts";

const CONTENDER = {
  key: "10.1.2.0-24",
  address: "192.0.2.2",
  what: "announces this node's VTEP MAC",
};

Deno.test("three changes come at once, the others with growing pauses, up to ten minutes", () => {
  let now = 0;
  const way = new GivingWay(() => now);
  const pauses: number[] = [];
  for (let change = 0; change < 14; change++) {
    pauses.push(way.pause / 1000);
    now += way.pause;
    way.given();
  }
  assert.deepEqual(pauses, [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600]);
  now += 100_000;
  assert.equal(way.pause, 500_000, "what has passed counts");
  now += 1_200_000;
  assert.equal(way.pause, 0, "after a quiet time all is forgotten");
});

Deno.test("no way is given to a lease that is gone when it is time, nor twice to one", async () => {
  let now = 0;
  const way = new GivingWay(() => now);
  const lost: string[] = [];
  let session = new AbortController();
  const take = (reason: string) => {
    lost.push(reason);
    session.abort();
  };
  const { signal } = session;
  await way.check(() => undefined, take, signal);
  assert.deepEqual(lost, []);
  await Promise.all([1, 2].map(() => way.check(() => CONTENDER, take, signal)));
  assert.equal(lost.length, 1);
  assert.match(
    lost[0],
    /^the lease 10\.1\.2\.0-24 of 192\.0\.2\.2, which is older than this node's, ann/,
  );
  for (let more = 0; more < 2; more++) way.given();
  now += 4_999;
  let looks = 0;
  session = new AbortController();
  await way.check(() => looks++ === 0 ? CONTENDER : undefined, take, session.signal);
  assert.deepEqual([lost.length, looks], [1, 2]);
});
