/**
 * The probes' books: for each ordered pair of nodes when each number was sent and when it arrived, so
 * that every packet that is lost is known by its time.
 *
 * @module
 */

/** From one node to another, by their index. */
export interface Pair {
  from: number;
  to: number;
}

/** A stretch of time in milliseconds since the epoch. */
export interface Span {
  since: number;
  until: number;
}

/** What became of a pair's packets in a span. */
export interface Losses {
  sent: number;
  /** Times at which packets were sent that never arrived. */
  lost: number[];
  /** Milliseconds of the longest stretch without an arrival, measured at the sender. */
  longestGap: number;
}

/** Milliseconds after which a packet that has not arrived counts as lost. */
export const LATEST = 1_500;

/** The books of one pair; a packet's number is its index. */
class Book {
  readonly sent: number[] = [];
  /** Undefined where it has not arrived. */
  readonly arrived: (number | undefined)[] = [];
  /** Numbers that came more than once. */
  duplicates = 0;
}

/** See the module. */
export class Ledger {
  readonly #books: Book[][];

  constructor(readonly nodes: number) {
    this.#books = Array.from(
      { length: nodes },
      () => Array.from({ length: nodes }, () => new Book()),
    );
  }

  /** All ordered pairs. */
  *pairs(): Generator<Pair> {
    for (let from = 0; from < this.nodes; from++) {
      for (let to = 0; to < this.nodes; to++) if (from !== to) yield { from, to };
    }
  }

  /** Enters that numbers from `first` on were sent at `times`. */
  sent({ from, to }: Pair, first: number, times: readonly number[]): void {
    const { sent } = this.#books[from][to];
    for (const [index, time] of times.entries()) sent[first + index] = time;
  }

  /** Enters that a number arrived. */
  arrived({ from, to }: Pair, number: number, time: number): void {
    const book = this.#books[from][to];
    if (book.arrived[number] === undefined) book.arrived[number] = time;
    else book.duplicates++;
  }

  /** What became of the packets that a pair sent in `span`. */
  losses({ from, to }: Pair, { since, until }: Span): Losses {
    const { sent, arrived } = this.#books[from][to];
    const losses: Losses = { sent: 0, lost: [], longestGap: 0 };
    let gapSince: number | undefined;
    for (let number = firstAt(sent, since); number < sent.length; number++) {
      const time = sent[number];
      if (time > until) break;
      losses.sent++;
      if (arrived[number] !== undefined) {
        gapSince = undefined;
        continue;
      }
      losses.lost.push(time);
      gapSince ??= time;
      losses.longestGap = Math.max(losses.longestGap, (sent[number + 1] ?? time) - gapSince);
    }
    return losses;
  }

  /**
   * When a pair began to work without a loss up to now: the time of sending of the packet after the
   * last lost one, at `since` at the earliest; undefined where the last `count` packets that are old
   * enough to tell, all sent after `since`, did not all arrive.
   */
  worksSince({ from, to }: Pair, since: number, count: number): number | undefined {
    const { sent, arrived } = this.#books[from][to];
    let last = sent.length - 1;
    while (last >= 0 && arrived[last] === undefined && Date.now() - sent[last] < LATEST) last--;
    let number = last;
    while (number >= 0 && arrived[number] !== undefined && sent[number] >= since) number--;
    return last - number >= count ? sent[number + 1] : undefined;
  }
}

/** The first number that was sent at `time` or later. */
function firstAt(sent: readonly number[], time: number): number {
  let [low, high] = [0, sent.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sent[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
