/**
 * Checks of the host that the agent makes at its start, and the doctor among others: what is worth a
 * warning, although forwarding may work.
 *
 * @module
 */
import type { Finding } from "../backends/finding.ts";
import { addressOnlyFindings } from "./address_only.ts";
import type { HostFacts, HostSource } from "./facts.ts";
import { otherAgentFindings } from "./other_agent.ts";
import { overlapFindings } from "./overlap.ts";
import { reversePathFindings } from "./reverse_path.ts";

export { addressOnlyFindings } from "./address_only.ts";
export { otherAgentFindings } from "./other_agent.ts";
export { overlapFindings } from "./overlap.ts";
export { reversePathFindings } from "./reverse_path.ts";

/**
 * What the agent warns of. A check that fails is passed over: it tells nothing about the host.
 *
 * @param failed is told of such a check
 */
export async function startUpWarnings(
  facts: HostFacts,
  source: HostSource,
  failed: (error: unknown) => void,
): Promise<Finding[]> {
  const checks = [otherAgentFindings, addressOnlyFindings, overlapFindings, reversePathFindings];
  const results = await Promise.allSettled(checks.map((check) => check(facts, source)));
  return results.flatMap((result) => {
    if (result.status === "fulfilled") return result.value.filter(isWarning);
    failed(result.reason);
    return [];
  });
}

function isWarning({ verdict }: Finding): boolean {
  return verdict !== "pass";
}
