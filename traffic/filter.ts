/**
 * What a packet filter is to the rest of `traffic/`.
 *
 * @module
 */
import type { RuleSet } from "./rules.ts";

/** What one check did; empty lists where all was right already. */
export interface EnsureReport {
  /** What was written, in words: `iptables filter: chain FLANNEL-FWD`. */
  changed: string[];
  /** What is not as wanted and why, one line each; tried again at the next check. */
  errors: string[];
}

/** A packet filter in which rules are kept. */
export interface PacketFilter {
  /**
   * Others' rules that, after the last {@linkcode ensure}, drop for certain what ours accept; a line
   * each, with the remedy.
   */
  readonly lost: readonly string[];
  /**
   * When the next {@linkcode ensure} is due although nobody changes anything, on the clock of
   * `performance.now()`: the last one left out a look. Undefined where it left out nothing.
   */
  readonly due: number | undefined;
  /** Makes the rules what is wanted; writes nothing where they are. Never throws. */
  ensure(wanted: RuleSet): Promise<EnsureReport>;
  /** Removes what is ours, and nothing else; where it is not installed there is nothing. */
  remove(): Promise<EnsureReport>;
}

/** A failure that is told in one line, of a tool or for want of one. */
export class ToolError extends Error {}

/** Does `work` and notes in `report` what it changed, or why it failed. */
export async function collect(
  report: EnsureReport,
  work: () => Promise<string[]>,
): Promise<void> {
  try {
    report.changed.push(...await work());
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    report.errors.push(error.message);
  }
}
