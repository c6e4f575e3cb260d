/**
 * Time as the reconciler sees it, so that a test or a benchmark can let hours pass.
 *
 * @module
 */

/** What is waited on. */
export interface Clock {
  /** Milliseconds, from anywhere. */
  now(): number;
  /** Resolves after `ms` milliseconds, or when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** The machine's. */
export const CLOCK: Clock = {
  now: () => performance.now(),
  sleep(ms, signal) {
    if (signal.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    return promise;
  },
};
