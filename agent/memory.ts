/**
 * Keeps the agent's memory low while little happens.
 *
 * V8 collects what has survived a while only when the heap has grown by many megabytes, and an idle
 * agent takes hours for that: until then each connection's buffers and each command's output stay.
 * glibc, too, keeps what was freed. Here both are asked to give back, at a time when nothing waits.
 *
 * @module
 */

/** Milliseconds to the first look: what only the start needed is free by then. */
const FIRST = 10_000;
/** Milliseconds between two looks. */
const EVERY = 30_000;
/** Milliseconds in which what was allocated for an answer is sent, and garbage. */
const ANSWER = 3_000;
/** Milliseconds from a collection, whose buffers V8 frees on another thread, to the release. */
const SWEEP = 1_000;
/** Growth in bytes, of the heap and of buffers outside of it, that is worth a collection. */
const STEP = 1 << 20;
/** Share of the memory in use that is worth a collection: to look through more takes longer. */
const SHARE = 0.1;
/** Looks after which what has grown by less is collected, too. */
const PATIENCE = 20;

/** V8's collector, where `--expose-gc` is among its flags. */
type Collector = (options: { type: "major"; execution: "async" }) => Promise<void>;

/** Keeps memory low until `signal` aborts. */
export class MemoryKeeper {
  readonly #release: () => Promise<void>;
  readonly #signal: AbortSignal;
  readonly #gc = (globalThis as { gc?: Collector }).gc;
  /** Bytes in use after the last collection. */
  #left = 0;
  /** Shortens the pause before the next look. */
  #soon: () => void = () => {};

  /** @param release gives memory that was freed back to the system */
  constructor(release: () => Promise<void>, signal: AbortSignal) {
    this.#release = release;
    this.#signal = signal;
  }

  /** Much was allocated and will be garbage in a moment: the next look comes then. */
  soon(): void {
    this.#soon();
  }

  /** Looks from time to time, and collects when enough garbage may be there. Resolves at the end. */
  async keep(): Promise<void> {
    // Before the second look V8 does not tell what the start left behind.
    for (let look = -1, pause = FIRST; await this.#pause(pause); look++, pause = EVERY) {
      if (look > 0 && look < PATIENCE && !this.#hasGrown()) continue;
      if (look > 0) look = 0;
      await this.#collect();
    }
  }

  #hasGrown(): boolean {
    return inUse() - this.#left >= Math.max(STEP, this.#left * SHARE);
  }

  async #collect(): Promise<void> {
    await this.#gc?.({ type: "major", execution: "async" });
    this.#left = inUse();
    await this.#pause(SWEEP);
    await this.#release();
  }

  /** Waits; whether to go on after that. */
  async #pause(ms: number): Promise<boolean> {
    if (this.#signal.aborted) return false;
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = () => resolve();
    const timers = [setTimeout(end, ms)];
    this.#soon = () => {
      this.#soon = () => {};
      timers.push(setTimeout(end, ANSWER));
    };
    this.#signal.addEventListener("abort", end);
    await promise;
    this.#signal.removeEventListener("abort", end);
    timers.forEach(clearTimeout);
    return !this.#signal.aborted;
  }
}

/** Bytes that V8 accounts for: its heap, and buffers outside of it. */
function inUse(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}
