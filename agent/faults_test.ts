import assert from "node:assert/strict";
import { Faults } from "./faults.ts";
import { Status } from "./status.ts";

Deno.test("what is thrown where nobody catches it is counted, and all begins again once", async () => {
  const status = new Status();
  using faults = new Faults(status);
  const restarts: string[] = [];
  faults.restart = (reason) => restarts.push(reason);
  for (let index = 0; index < 3; index++) {
    setTimeout(() => {
      throw new Error("in a timer");
    });
    Promise.reject(new Error("nobody waits for this"));
    queueMicrotask(() => {
      throw undefined;
    });
  }
  for (let turn = 0; turn < 100 && status.internalErrors < 9; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(status.internalErrors, 9);
  assert.equal(restarts.length, 1);
});

Deno.test("a part that fails begins again until it is stopped", async () => {
  const status = new Status();
  using faults = new Faults(status);
  const stop = new AbortController();
  let runs = 0;
  await faults.supervise("a part", () => {
    runs++;
    if (runs === 3) stop.abort();
    return Promise.reject(new Error("again"));
  }, stop.signal);
  assert.equal(runs, 3);
  assert.equal(status.internalErrors, 2);
  await faults.supervise("a part", () => Promise.resolve(), new AbortController().signal);
});
