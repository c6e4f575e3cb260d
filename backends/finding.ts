/**
 * What an examination of a node or its surroundings found: data, for whatever prints it.
 *
 * @module
 */

/**
 * - `ok`: as it should be
 * - `note`: worth knowing, also where something could not be checked
 * - `broken`: packets do not pass, or the agent fails
 */
export type Verdict = "ok" | "note" | "broken";

/** One thing that was looked at. */
export interface Finding {
  verdict: Verdict;
  /** What was looked at: `CreateRoute`, `route table rtb-6f23030a`. */
  check: string;
  /** What was found, in one line. */
  detail: string;
  /** What to do about it, as a command or in words; never with `ok`. */
  fix?: string;
}

/** A finding that needs nothing. */
export function ok(check: string, detail: string): Finding {
  return { verdict: "ok", check, detail };
}

/** A finding that is worth knowing. */
export function note(check: string, detail: string, fix?: string): Finding {
  return { verdict: "note", check, detail, fix };
}

/** A finding that needs mending. */
export function broken(check: string, detail: string, fix?: string): Finding {
  return { verdict: "broken", check, detail, fix };
}
