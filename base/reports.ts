/**
 * Lines in the log about single leases, of which a store may hold any number, written by anyone.
 * Each lease gets its line, but a flood of them neither holds up the work nor fills the disk: lines
 * are written in slices, and beyond a budget they are counted instead, in one line a minute.
 *
 * @module
 */

/** Lines that may come at once: more than any network has leases. */
const BURST = 131_072;
/** Lines for each second beyond that. */
const PER_SECOND = 1;
/** Lines about one lease in a minute; one that flips gets no more. */
const PER_LEASE = 10;
/** Leases whose lines are counted. */
const MOST_COUNTED = 131_072;
/** Lines written before the call returns, and in a slice of those that wait. */
const SLICE = 250;
/** Milliseconds between two slices. */
const PAUSE = 25;
/** Milliseconds between two lines about what was left out. */
const SUMMARY = 60_000;

/** How many lines may be written: a burst, and some for each second. */
export class Budget {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #at = performance.now();

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  /** Whether one more may be written, which then counts as written. */
  take(): boolean {
    const now = performance.now();
    const earned = (now - this.#at) / 1000 * this.#perSecond;
    this.#at = now;
    this.#left = Math.min(this.#burst, this.#left + earned);
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

/** What writes the lines. */
export interface ReportLog {
  line(key: string, reason: string): void;
  /** So many lines were left out since the last of these; the last one's key and reason. */
  leftOut(count: number, key: string, reason: string): void;
}

/** See the module. */
export class Reports {
  readonly #log: ReportLog;
  readonly #budget: Budget;
  #waiting: [key: string, reason: string][] = [];
  /** Lines written since the last pause began, and when that was. */
  #written = 0;
  #since = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Lines about each lease in the minute that began with the first. */
  readonly #counts = new Map<string, { lines: number; since: number }>();
  #leftOut = 0;
  #last: [key: string, reason: string] = ["", ""];
  #summary: ReturnType<typeof setTimeout> | undefined;

  constructor(log: ReportLog, budget = new Budget(BURST, PER_SECOND)) {
    this.#log = log;
    this.#budget = budget;
  }

  /** Writes a line about a lease, now or soon, or counts it. */
  add(key: string, reason: string): void {
    const now = performance.now();
    if (this.#isNoisy(key, now) || !this.#budget.take()) return this.#leaveOut(key, reason);
    if (now - this.#since > PAUSE) [this.#since, this.#written] = [now, 0];
    if (this.#written < SLICE && this.#waiting.length === 0) {
      this.#written++;
      this.#log.line(key, reason);
      return;
    }
    this.#waiting.push([key, reason]);
    this.#timer ??= setTimeout(() => this.#slice(), PAUSE);
  }

  /** Counts a line about a lease. @returns whether it is one too many */
  #isNoisy(key: string, now: number): boolean {
    const former = this.#counts.get(key);
    const count = former && now - former.since < SUMMARY ? former : { lines: 0, since: now };
    this.#counts.delete(key);
    this.#counts.set(key, count);
    const [oldest] = this.#counts.keys();
    if (this.#counts.size > MOST_COUNTED) this.#counts.delete(oldest);
    return ++count.lines > PER_LEASE;
  }

  #slice(): void {
    for (const [key, reason] of this.#waiting.splice(0, SLICE)) this.#log.line(key, reason);
    this.#timer = this.#waiting.length > 0 ? setTimeout(() => this.#slice(), PAUSE) : undefined;
  }

  #leaveOut(key: string, reason: string): void {
    this.#leftOut++;
    this.#last = [key, reason];
    this.#summary ??= setTimeout(() => this.#summarize(), SUMMARY);
  }

  #summarize(): void {
    clearTimeout(this.#summary);
    this.#summary = undefined;
    if (this.#leftOut === 0) return;
    this.#log.leftOut(this.#leftOut, ...this.#last);
    this.#leftOut = 0;
  }

  /** Writes what waits, and how many were left out. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [key, reason] of this.#waiting.splice(0)) this.#log.line(key, reason);
    this.#summarize();
  }
}
