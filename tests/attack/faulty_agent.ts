/**
 * The agent from this checkout's sources, with faults that nobody catches once it has run for a
 * while: in a timer, a promise, a callback of Node's and one of no error at all, again and again.
 *
 * @module
 */
import { EventEmitter } from "node:events";
import { main } from "../../cli/main.ts";

/** Milliseconds until the first faults, and between two. */
const [FIRST, EACH] = [2_000, 50];

function fail(): void {
  setTimeout(() => {
    throw new Error("a fault in a timer");
  });
  Promise.reject(new Error("a fault in a promise"));
  queueMicrotask(() => {
    throw null;
  });
  setTimeout(() => new EventEmitter().emit("error", new Error("a fault in an event")));
}

let ends = false;
// What fails while the process ends is nobody's to catch.
Deno.addSignalListener("SIGTERM", () => ends = true);
setTimeout(() => setInterval(() => ends || fail(), EACH), FIRST);
Deno.exit(await main(Deno.args));
