/**
 * The agent as a process: its lock, its signals, what it opens and closes.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { validateBackendConfig } from "../backends/registry.ts";
import { DataPlane } from "../dataplane/mod.ts";
import { HeldError, type Station } from "../dataplane/station.ts";
import { createManager } from "../subnet/registry.ts";
import type { PreviousSubnets } from "../subnet/types.ts";
import { Agent } from "./agent.ts";
import { requireCapabilities } from "./capabilities.ts";
import { UsageError } from "./errors.ts";
import { Faults } from "./faults.ts";
import { LeaseFile, leaseFileOf } from "./lease_file.ts";
import { acquireLock } from "./lock.ts";
import type { AgentOptions } from "./options.ts";
import { Status } from "./status.ts";
import { previousSubnets } from "./subnet_file.ts";

const log = getLogger(["flanneld", "agent"]);

/**
 * Runs the agent until SIGTERM or SIGINT.
 *
 * @returns the exit status
 * @throws {UsageError} for what waiting does not mend
 */
export async function runAgent(options: AgentOptions): Promise<number> {
  using station = takeLock(options);
  const stop = new AbortController();
  using _signals = onSignals((name) => {
    log.info("Received {name}, stopping; forwarding state stays in place", { name });
    stop.abort();
  });
  using dataplane = DataPlane.open(options.libraryPath);
  requireCapabilities(dataplane);
  const leaseFile = new LeaseFile(leaseFileOf(options.subnetFile));
  const manager = await createManager(options.store, {
    previous: formerSubnets(options.subnetFile),
    memory: leaseFile,
    renewMarginMinutes: options.renewMarginMinutes,
    subnetTtlSeconds: options.leaseSeconds,
    checkConfig: validateBackendConfig,
  });
  log.info("Created subnet manager: {name}", { name: manager.name });
  const status = new Status();
  try {
    using faults = new Faults(status);
    await new Agent(
      options,
      { dataplane, manager, leaseFile, station, status, faults },
      stop.signal,
    ).run();
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    await manager.close();
  }
  log.info("Exiting cleanly...");
  return 0;
}

/** What is at the path may not be a file of ours: then it is replaced once there is a lease. */
function formerSubnets(path: string): PreviousSubnets {
  try {
    return previousSubnets(path);
  } catch (error) {
    log.warn("Ignoring the subnet file {path}: {error}", { path, error: String(error) });
    return { subnet: null, ipv6Subnet: null };
  }
}

/** Takes this node's lock. @throws {UsageError} where another agent has it */
function takeLock({ libraryPath, subnetFile }: AgentOptions): Station {
  try {
    return acquireLock(libraryPath, subnetFile);
  } catch (error) {
    if (!(error instanceof HeldError)) throw error;
    const process = error.pid === null ? "" : `, process ${error.pid}`;
    throw new UsageError(
      `another flanneld runs on this node (in this network namespace${process}): stop it first`,
    );
  }
}

/** Installs handlers for the signals that stop the agent; disposing removes them. */
function onSignals(handle: (name: string) => void): Disposable {
  const handlers = (["SIGTERM", "SIGINT"] as const).map((name) =>
    [name, () => handle(name)] as const
  );
  for (const [name, handler] of handlers) Deno.addSignalListener(name, handler);
  return {
    [Symbol.dispose]: () => {
      for (const [name, handler] of handlers) Deno.removeSignalListener(name, handler);
    },
  };
}
