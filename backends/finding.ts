/**
 * What an examination of a node or its surroundings found: data, for whatever prints it.
 *
 * @module
 */

/**
 * - `pass`: as it should be
 * - `warn`: worth knowing, also where something could not be checked
 * - `fail`: packets do not pass, or the agent fails
 */
export type Verdict = "pass" | "warn" | "fail";

/** One thing that was looked at. */
export interface Finding {
  verdict: Verdict;
  /** What was looked at: `CreateRoute`, `route table rtb-6f23030a`. */
  check: string;
  /** What was found, in one line. */
  detail: string;
  /** What to do about it, as a command or in words; never with `pass`. */
  fix?: string;
}

/** A finding that needs nothing. */
export function pass(check: string, detail: string): Finding {
  return { verdict: "pass", check, detail };
}

/** A finding that is worth knowing. */
export function warn(check: string, detail: string, fix?: string): Finding {
  return { verdict: "warn", check, detail, fix };
}

/** A finding that needs mending. */
export function fail(check: string, detail: string, fix?: string): Finding {
  return { verdict: "fail", check, detail, fix };
}
