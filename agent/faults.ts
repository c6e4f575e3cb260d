/**
 * The last resort for faults of the program itself: whatever throws where nobody catches it is logged
 * and counted, what failed begins again, and the data plane carries packets all the while.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { backoff, sleep } from "../base/time.ts";
import { Budget } from "../base/reports.ts";
import type { Status } from "./status.ts";

const log = getLogger(["flanneld", "agent"]);

/** Traces that are remembered, so that each is logged once. */
const MOST_TRACES = 64;
/** Characters of a trace in the log. */
const LONGEST_TRACE = 4_000;
/** Milliseconds between two tries of a part that fails, at most. */
const LONGEST_PAUSE = 60_000;
/** Milliseconds after which a part that ran has not failed at once. */
const STEADY = 60_000;

/** See the module. */
export class Faults implements Disposable {
  readonly #status: Status;
  readonly #logged = new Set<string>();
  readonly #lines = new Budget(16, 1 / 60);
  readonly #restarts = new Budget(1, 1 / 60);
  readonly #listening = new AbortController();
  /** Begins all again, where nobody knows which part failed; undefined before there is anything. */
  restart: ((reason: string) => void) | undefined;

  /** From here on nothing uncaught ends the process, until this is disposed. */
  constructor(status: Status) {
    this.#status = status;
    const caught = (event: ErrorEvent | PromiseRejectionEvent, error: unknown) => {
      event.preventDefault();
      this.note("an unknown component", error);
      if (this.restart && this.#restarts.take()) this.restart("a part of the agent failed");
    };
    const options = { signal: this.#listening.signal };
    globalThis.addEventListener("error", (event) => caught(event, event.error), options);
    globalThis.addEventListener(
      "unhandledrejection",
      (event) => caught(event, event.reason),
      options,
    );
  }

  /** Counts a fault, and logs it with its trace unless it was logged before. */
  note(part: string, error: unknown): void {
    this.#status.internalErrors++;
    const trace = traceOf(error);
    if (this.#logged.has(trace) || !this.#lines.take()) return;
    if (this.#logged.size < MOST_TRACES) this.#logged.add(trace);
    log.error("Internal error in {part}; forwarding continues; please report this: {trace}", {
      part,
      trace,
    });
  }

  /**
   * Runs a part that nothing else depends on until it ends by itself or `signal` aborts. Where it
   * fails it begins again, later each time. Never throws.
   */
  async supervise(part: string, run: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (let failures = 3; !signal.aborted;) {
      const began = performance.now();
      try {
        return await run();
      } catch (error) {
        if (signal.aborted) return;
        this.note(part, error);
        failures = performance.now() - began > STEADY ? 3 : failures + 1;
        await sleep(backoff(failures, LONGEST_PAUSE), signal).catch(() => {});
      }
    }
  }

  [Symbol.dispose](): void {
    this.#listening.abort();
  }
}

function traceOf(error: unknown): string {
  let trace: string;
  try {
    trace = error instanceof Error ? error.stack ?? String(error) : String(error);
  } catch {
    // It has no text.
    trace = typeof error;
  }
  return trace.slice(0, LONGEST_TRACE);
}
