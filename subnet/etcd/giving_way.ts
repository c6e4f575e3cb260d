/**
 * Giving way to another node's older lease that announces what ours does: the other nodes leave it to
 * the older one, and send our traffic there, until this node announces something else.
 *
 * That is a new session, which costs little; but a lease that follows each change must not set the
 * pace. The first changes come at once, those after them with growing pauses.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { sleep } from "../../base/time.ts";
import type { Contender } from "../validate.ts";

const log = getLogger(["flanneld", "subnet"]);

/** Changes that are made at once. */
const AT_ONCE = 3;
/** Milliseconds between two changes after that: the first pause, doubled up to the last. */
const FIRST_PAUSE = 5_000;
const LAST_PAUSE = 600_000;
/** Milliseconds without a change after which all is forgotten. */
const FORGET = 2 * LAST_PAUSE;

/** See the module. One for all sessions of an agent. */
export class GivingWay {
  readonly #now: () => number;
  #count = 0;
  #last = -Infinity;
  #logged = false;
  #isChecking = false;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Milliseconds to wait before the next change. */
  get pause(): number {
    const since = this.#now() - this.#last;
    if (since > FORGET) {
      this.#count = 0;
      this.#logged = false;
    }
    if (this.#count < AT_ONCE) return 0;
    const pause = Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** (this.#count - AT_ONCE));
    return Math.max(0, pause - since);
  }

  /** Takes note that something else is announced from now on. */
  given(): void {
    this.#count++;
    this.#last = this.#now();
  }

  /**
   * Calls `lost` with the reason if there is a superior lease, and still is when it is time.
   *
   * @throws the signal's reason when it aborts
   */
  async check(
    superior: () => Contender | undefined,
    lost: (reason: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const found = superior();
    if (found === undefined || this.#isChecking || signal.aborted) return;
    this.#isChecking = true;
    try {
      const { pause } = this;
      if (pause > 0) {
        if (!this.#logged) {
          log.warn(
            "Peers ignore what this node announces: {reason}, again and again; from now on, this node " +
              "changes its own at growing intervals",
            { reason: superiorText(found) },
          );
        }
        this.#logged = true;
        await sleep(pause, signal);
      }
      const still = superior();
      if (still === undefined) return;
      this.given();
      lost(`${superiorText(still)}, and peers follow the older lease; changing this node's`);
    } finally {
      this.#isChecking = false;
    }
  }
}

/** What to say of an older lease that is in our way. */
export function superiorText({ key, address, what }: Contender): string {
  return `the lease ${key} of ${address}, which is older than this node's, ${what}`;
}
