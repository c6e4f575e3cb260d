import assert from "node:assert/strict";
import { Losses } from "./losses.ts";

Deno.test("a few lost leases are made up for at once, those after them take their time", async () => {
  const losses = new Losses();
  const { signal } = new AbortController();
  assert.equal(await losses.turn(signal), false, "none was lost");
  for (let nth = 0; nth < 4; nth++) {
    losses.lost("it was overwritten");
    assert.equal(await losses.turn(signal), false);
  }
  losses.lost("it was overwritten");
  await assert.rejects(losses.turn(AbortSignal.timeout(1_500)), /TimeoutError|timed out/i);
  assert.equal(await losses.turn(signal), false, "the next session is of another cause");
});
