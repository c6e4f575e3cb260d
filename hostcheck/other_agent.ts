/**
 * Another program's agent on this node, such as Go flannel's: both would change the same lease,
 * devices and rules.
 *
 * @module
 */
import { type Finding, warn } from "../backends/finding.ts";
import type { HostFacts, HostSource } from "./facts.ts";

/** A finding where such an agent runs. */
export async function otherAgentFindings(_: HostFacts, source: HostSource): Promise<Finding[]> {
  const other = await source.otherAgent();
  if (other === null) return [];
  const detail = `another flanneld, process ${other.id}, runs on this node`;
  return [warn("agent", detail, "stop one of the two, as both change the same routes and rules")];
}
