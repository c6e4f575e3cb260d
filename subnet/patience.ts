/**
 * Waiting for etcd: the same attempt again, with backoff and jitter, and one line in the log for each
 * state rather than for each attempt.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { EtcdFault, type FaultKind } from "./etcd_client.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Milliseconds before the second attempt, and the most between two. */
const SHORTEST = 100;
const LONGEST = 5_000;

/** Resolves after `ms` milliseconds. @throws the signal's reason when it aborts */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => resolve(), { once: true, signal: ended(promise) });
  await promise;
  clearTimeout(timer);
  signal.throwIfAborted();
}

/** A signal that aborts when a promise has settled, to remove listeners by. */
function ended(promise: Promise<unknown>): AbortSignal {
  const controller = new AbortController();
  promise.finally(() => controller.abort()).catch(() => {});
  return controller.signal;
}

/** `promise`, or the signal's reason when it aborts before. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
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

/** What all calls to one etcd share: whether it is known to be away. */
export class Patience {
  #state: FaultKind | "well" = "well";
  #answered = false;

  /**
   * Calls `attempt` until it succeeds.
   *
   * @throws what `attempt` throws other than {@linkcode EtcdFault}; the signal's reason on abort
   */
  async until<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
    for (let failures = 0;; failures++) {
      try {
        const result = await unlessAborted(attempt(), signal);
        this.#well();
        return result;
      } catch (error) {
        if (!(error instanceof EtcdFault)) throw error;
        signal.throwIfAborted();
        this.#away(error);
        await sleep(backoff(failures), signal);
      }
    }
  }

  #away({ kind, message }: EtcdFault): void {
    // An etcd that refuses us may cut the connection before it says why: no news.
    if (this.#state === kind || (this.#state !== "well" && kind === "unreachable")) return;
    this.#state = kind;
    const meanwhile = this.#answered
      ? "forwarding goes on with the last known peers"
      : "trying again until it answers";
    log.warn("{message}; {meanwhile}", { message, meanwhile });
  }

  #well(): void {
    this.#answered = true;
    if (this.#state === "well") return;
    this.#state = "well";
    log.info("etcd answers again");
  }
}
