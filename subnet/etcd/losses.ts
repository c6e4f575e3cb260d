/**
 * Pacing a node whose leases are lost one after another. Whoever takes each lease that it claims must
 * not set the pace: each is another subnet for its containers, some lines in its log and a key in etcd.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Budget } from "../../base/reports.ts";
import { backoff, sleep } from "../../base/time.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Leases that are made up for at once, and how many a second after that. */
const AT_ONCE = 4;
const PER_SECOND = 1 / 30;

/** See the module. One for all sessions of an agent. */
export class Losses {
  readonly #budget = new Budget(AT_ONCE, PER_SECOND);
  #reason = "";
  #told = false;

  /** Takes note that our lease is another's now. */
  lost(reason: string): void {
    this.#reason = reason;
  }

  /**
   * Waits until it is time for another lease, after one was lost.
   *
   * @returns whether it waited, so that what was read before is old
   * @throws the signal's reason when it aborts
   */
  async turn(signal: AbortSignal): Promise<boolean> {
    const reason = this.#reason;
    if (reason === "") return false;
    this.#reason = "";
    const waits = !this.#budget.take();
    if (waits && !this.#told) {
      log.warn(
        "This node loses one lease after another, at last because {reason}; claiming a new one every " +
          "{seconds} s at most from now on: find out who writes them",
        { reason, seconds: Math.round(1 / PER_SECOND) },
      );
    }
    this.#told = waits;
    if (!waits) return false;
    do await sleep(backoff(3), signal); while (!this.#budget.take());
    return true;
  }
}
