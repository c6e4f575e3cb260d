/**
 * `flanneld cleanup`: takes from the node what the agent made.
 *
 * @module
 */
import { openStore } from "../subnet/registry.ts";
import { storeOptions } from "./agent_options.ts";
import { requireCapabilities } from "../agent/capabilities.ts";
import { UsageError } from "../agent/errors.ts";
import { leaseFileOf } from "../agent/lease_file.ts";
import { acquireLock } from "../agent/lock.ts";
import { printable } from "../base/printable.ts";
import { DataPlane } from "../dataplane/mod.ts";
import { HeldError, type Station } from "../dataplane/station.ts";
import { createTrafficRules } from "../traffic/mod.ts";
import { fileFault } from "./files.ts";
import type { Settings } from "./parse.ts";
import { libraryPath } from "./paths.ts";
import { ownLeases, thisNode, warnRefused } from "./this_node.ts";

/**
 * Runs the command: a step that fails does not keep the others from being done.
 *
 * @param withLease also gives back the lease and removes the subnet file
 * @returns the exit status
 */
export async function cleanup(settings: Settings, withLease: boolean): Promise<number> {
  await refuseWhereUnsafe();
  using _lock = takeLock(settings);
  const steps = withLease ? [...STEPS, giveBack] : STEPS;
  let removed = 0;
  let status = 0;
  for (const step of steps) {
    try {
      await step((thing) => {
        console.log(printable(`removed ${thing}`));
        removed++;
      }, settings);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      console.error(printable(`flanneld: ${reason}`));
      status = 1;
    }
  }
  if (removed === 0 && status === 0) console.log("nothing to remove");
  return status;
}

/** Keeps an agent from starting meanwhile. @throws Error where one runs */
function takeLock({ values }: Settings): Station {
  try {
    return acquireLock(libraryPath(), values["subnet-file"]);
  } catch (error) {
    if (!(error instanceof HeldError)) throw error;
    throw new Error("flanneld runs on this node (in this network namespace): stop it first");
  }
}

/** @throws {UsageError} rather than an error of each tool, or to cut off a node of Go flannel's */
async function refuseWhereUnsafe(): Promise<void> {
  using dataplane = DataPlane.open(libraryPath());
  requireCapabilities(dataplane, "clean up");
  const other = await dataplane.otherAgent();
  if (other === null) return;
  throw new UsageError(
    `another flanneld, process ${other.id}, runs on this node and uses what cleanup would ` +
      "remove: stop it first",
  );
}

/** Removes things, telling each; throws where one is left. */
type Step = (removed: (thing: string) => void, settings: Settings) => Promise<void>;

const STEPS: Step[] = [
  async (removed) => {
    using dataplane = DataPlane.open(libraryPath());
    const report = await dataplane.cleanup();
    report.removed.forEach(removed);
    if (report.errors.length === 0) return;
    const errors = report.errors.map(({ entry, message }) => `${entry}: ${message}`);
    throw new Error(`cannot remove ${errors.join("; ")}`);
  },
  // Takes the rules of both packet filters, whichever is asked.
  async (removed, { values }) => {
    const rules = createTrafficRules("iptables", { subnetFile: values["subnet-file"] });
    (await rules.remove()).forEach(removed);
  },
];

/** Removes this node's lease and, once it is gone, the files that would ask for it again. */
async function giveBack(removed: (thing: string) => void, settings: Settings): Promise<void> {
  const node = thisNode(settings);
  using store = await openStore(storeOptions(settings));
  for (const lease of ownLeases(await store.leases(warnRefused, node.held), node)) {
    await store.release(lease);
    removed(`lease ${lease.key} of ${lease.attrs.publicIP ?? lease.attrs.publicIPv6}`);
  }
  const subnetFile = settings.values["subnet-file"];
  for (const path of [subnetFile, leaseFileOf(subnetFile)]) {
    try {
      await Deno.remove(path);
      removed(`file ${path}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        throw new Error(`cannot remove ${path}: ${fileFault(error)}`);
      }
    }
  }
}
