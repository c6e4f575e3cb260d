/**
 * Waiting: for a time, for what may be aborted, and before another attempt.
 *
 * @module
 */

/** Milliseconds before the second attempt, and the most between two. */
const SHORTEST = 100;
const LONGEST = 5_000;

/** Resolves after `ms` milliseconds. @throws the signal's reason when it aborts */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => resolve(), { once: true, signal: ended(promise) });
  await promise;
  clearTimeout(timer);
  signal?.throwIfAborted();
}

/** A signal that aborts when a promise has settled, to remove listeners by. */
function ended(promise: Promise<unknown>): AbortSignal {
  const controller = new AbortController();
  promise.finally(() => controller.abort()).catch(() => {});
  return controller.signal;
}

/** `promise`, or the signal's reason when it aborts before. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // Whoever stops waiting has no use for an error either.
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const settled = ended(promise);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true, signal: settled });
  return await Promise.race([promise, aborted]);
}

/** Milliseconds to wait after so many failures: doubling, by half more or less at random. */
export function backoff(failures: number, longest = LONGEST): number {
  return Math.min(longest, SHORTEST * 2 ** Math.min(failures, 20)) * (0.5 + Math.random());
}
