/**
 * One agent a node: its lock, in a folder that no other user can change.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Station } from "../dataplane/station.ts";

const log = getLogger(["flanneld", "agent"]);

/** Where the agent's own files are. Root owns it, or the user that the service runs as. */
const FOLDER = "/run/flannel";

/**
 * Where an agent may hold its lock, the best first. One that may not write to `/run/flannel`, since it
 * does not run as root, has the subnet file's folder at least.
 */
export function lockFolders(subnetFile: string): string[] {
  const folder = subnetFile.slice(0, subnetFile.lastIndexOf("/") + 1) || ".";
  return [FOLDER, folder];
}

/**
 * Takes the lock of this network namespace.
 *
 * @throws {HeldError} where another process has it
 * @throws Error of one line, where it cannot be had or others could take it away
 */
export function acquireLock(libraryPath: string, subnetFile: string): Station {
  let station: Station;
  try {
    station = Station.hold(libraryPath, lockFolders(subnetFile));
  } catch (error) {
    if (!(error instanceof Error) || error.name === "HeldError") throw error;
    throw new Error(`cannot take this node's lock: ${error.message}`, { cause: error });
  }
  if (station.repaired) {
    log.warn("{folder} was writable by other users: removed that permission", { folder: FOLDER });
  }
  return station;
}
