/**
 * Keeps the agent's memory low while little happens.
 *
 * V8 collects what has survived a while only when the heap has grown by many megabytes, and an idle
 * agent takes hours for that: until then each connection's buffers and each command's output stay.
 * glibc, too, keeps what was freed. Here both are asked to give back, at a time when nothing waits.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";

/** Milliseconds between two looks. */
const EVERY = 30_000;
/** Growth in bytes, of the heap and of buffers outside of it, that is worth a collection. */
const STEP = 1 << 20;
/** Share of the memory in use that is worth a collection: to look through more takes longer. */
const SHARE = 0.05;
/** Looks after which what has grown by less is collected, too. */
const PATIENCE = 20;

/** V8's collector, where `--expose-gc` is among its flags. */
type Collector = (options: { type: "major"; execution: "async" }) => Promise<void>;

/** Bytes that V8 accounts for: its heap, and buffers outside of it. */
function inUse(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/**
 * Collects garbage when enough of it may be there, and has `release` give freed memory back to the
 * system. Resolves when `signal` aborts.
 */
export async function keepMemoryLow(
  release: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { gc } = globalThis as { gc?: Collector };
  let left = 0;
  let looks = PATIENCE;
  while (true) {
    try {
      await delay(EVERY, undefined, { signal });
    } catch {
      return;
    }
    looks++;
    if (looks < PATIENCE && inUse() - left < Math.max(STEP, left * SHARE)) continue;
    looks = 0;
    await gc?.({ type: "major", execution: "async" });
    await release();
    left = inUse();
  }
}
