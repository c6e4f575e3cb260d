/**
 * Whether an agent runs on this node, and is ready.
 *
 * @module
 */
import { lockFolders } from "../agent/lock.ts";
import type { AgentOptions } from "../agent/options.ts";
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import { askStation } from "../dataplane/station.ts";

/** Milliseconds for an answer of the agent's. */
const LIMIT = 2_000;

/** Returns whether one runs. */
export async function* examineAgent(
  { healthz, libraryPath, subnetFile }: AgentOptions,
): AsyncGenerator<Finding, boolean> {
  const reply = await askStation(libraryPath, lockFolders(subnetFile));
  if (reply === null) {
    yield warn("agent", "flanneld does not run on this node", "start it: systemctl start flanneld");
    return false;
  }
  const reason = await whyNotReady(healthz);
  yield reason === undefined
    ? pass("agent", "runs")
    : fail("agent", `runs: ${reason}`, "see its log: journalctl -u flanneld");
  return true;
}

/** By its own word, where its health server is on; undefined where it is ready or does not tell. */
async function whyNotReady({ ip, port }: AgentOptions["healthz"]): Promise<string | undefined> {
  if (port === 0) return undefined;
  const host = { "0.0.0.0": "127.0.0.1", "::": "::1" }[ip] ?? ip;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}/readyz`;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(LIMIT) });
    const text = await response.text();
    return response.ok ? undefined : text.trim().split("\n")[0];
  } catch {
    // Its health server may be elsewhere, or off: the flags are not known to be the agent's.
    return undefined;
  }
}
