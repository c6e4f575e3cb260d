/**
 * The traffic with etcd, in the log from level 3 on.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Budget } from "../../base/reports.ts";

const log = getLogger(["flanneld", "etcd"]);

/** Lines at once and then a second: whoever may write to etcd can cause any number. */
const BURST = 1_000;
const PER_SECOND = 10;
/** Changes named in a line. */
const MOST_NAMED = 5;

const budget = new Budget(BURST, PER_SECOND);
let leftOut = 0;

/** Logs a line, which is made only where that level is logged. */
export function logTraffic(line: () => string): void {
  if (!log.isEnabledFor("debug")) return;
  if (!budget.take()) {
    leftOut++;
    return;
  }
  const before = leftOut > 0 ? ` (${leftOut} similar lines were dropped before it)` : "";
  leftOut = 0;
  log.debug("{line}{before}", { line: line(), before });
}

/** Makes a call and logs how long it took, and what came of it. */
export async function logCall<T>(
  what: string,
  endpoint: string,
  call: () => Promise<T>,
  result: (answer: T) => string = () => "",
): Promise<T> {
  const began = performance.now();
  const took = () => `${(performance.now() - began).toFixed(1)} ms`;
  try {
    const answer = await call();
    logTraffic(() =>
      `${what} at ${endpoint}: ${[result(answer), took()].filter(Boolean).join(", ")}`
    );
    return answer;
  } catch (error) {
    // The message is left to who handles the fault.
    logTraffic(() => `${what} at ${endpoint}: failed after ${took()}`);
    throw error;
  }
}

/** The first of some things for a line, and how many more there are. */
export function firstOf<T>(things: readonly T[], name: (thing: T) => string): string {
  const more = things.length - MOST_NAMED;
  return things.slice(0, MOST_NAMED).map(name).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
