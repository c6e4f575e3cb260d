/**
 * The versions of the CNI specification.
 *
 * @module
 */
import { CniError, CODES } from "./errors.ts";

/** The versions that are understood, the newest last. */
export const SUPPORTED_VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

/** The newest one: of answers to a config whose version is not known. */
export const LATEST_VERSION = SUPPORTED_VERSIONS.at(-1)!;

/** What a config means that names no version (SPEC.md of 0.1.0). */
const UNNAMED_VERSION = "0.1.0";

/** Commands that came later than the first supported version. */
const SINCE: Record<string, string> = { CHECK: "0.4.0", GC: "1.1.0", STATUS: "1.1.0" };

/**
 * Refuses a version that is not understood, or that does not have the command.
 *
 * @throws {CniError} code 1
 */
export function requireVersion(version: string, command: string): void {
  const supported: readonly string[] = SUPPORTED_VERSIONS;
  const named = version === "" ? UNNAMED_VERSION : version;
  if (!supported.includes(named)) {
    throw new CniError(
      CODES.incompatibleVersion,
      `cniVersion ${JSON.stringify(named)} is not supported`,
      `set one of ${supported.join(", ")} in the network config`,
    );
  }
  if (command in SINCE && !isAtLeast(named, SINCE[command])) {
    throw new CniError(
      CODES.incompatibleVersion,
      `cniVersion ${named} does not have ${command}`,
      `it was added in ${SINCE[command]}`,
    );
  }
}

/** Whether `version` is `least` or a later one. */
export function isAtLeast(version: string, least: string): boolean {
  const [a, b] = [version, least].map((text) => text.split(".").map(Number));
  const different = a.findIndex((part, index) => part !== b[index]);
  return different < 0 || a[different] > b[different];
}

/** The answer to VERSION. */
export function versionResult(cniVersion: string): Record<string, unknown> {
  return { cniVersion: cniVersion || LATEST_VERSION, supportedVersions: SUPPORTED_VERSIONS };
}
