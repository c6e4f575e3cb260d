/**
 * Whether the traffic rules are in place, and nothing else drops the overlay's packets.
 *
 * @module
 */
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import { Commands, inspectForwarding, missingRules, type RuleSet } from "../traffic/mod.ts";
import type { Expectation } from "./kernel.ts";

/** Milliseconds for one run of iptables or nft. */
const TOOL_LIMIT = 3_000;

/** Looks at iptables and nftables alike. */
export async function* examineRules(
  kind: "iptables" | "nftables",
  wanted: RuleSet,
  { isRunning, hasLease }: Expectation,
): AsyncGenerator<Finding> {
  const check = "traffic rules";
  const commands = new Commands({ limitMs: TOOL_LIMIT });
  const missing = await missingRules(kind, wanted, commands);
  const fix = isRunning ? "see the log of flanneld, which restores them" : "start flanneld";
  for (const line of missing) {
    yield isRunning || hasLease ? fail(check, line, fix) : warn(check, line, fix);
  }
  if (missing.length === 0) yield pass(check, `in place (${kind})`);
  const lost = await inspectForwarding(wanted, { commands });
  for (const line of lost) {
    // The remedy follows the last colon that has a space behind it.
    const at = line.lastIndexOf(": ");
    yield at < 0 ? fail("packet filters", line) : fail(
      "packet filters",
      line.slice(0, at),
      line.slice(at + 2),
    );
  }
  if (lost.length === 0) yield pass("packet filters", "nothing drops the overlay's packets");
}
