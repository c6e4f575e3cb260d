/**
 * Errors as the CNI specification has them: a code, a message, details.
 *
 * @module
 */

/** The codes of the specification that are used here (SPEC.md, section "Error"). */
export const CODES = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decoding: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  notAvailable: 50,
  limitedConnectivity: 51,
  /** From 100 on they are the plugin's own. */
  internal: 100,
} as const;

/** What the runtime is told on standard output. */
export class CniError extends Error {
  override name = "CniError";

  constructor(
    readonly code: number,
    message: string,
    readonly details = "",
  ) {
    super(message);
  }

  /** The error whatever was thrown stands for. */
  static from(error: unknown): CniError {
    if (error instanceof CniError) return error;
    const message = error instanceof Error ? error.message : String(error);
    return new CniError(CODES.internal, message.trim().replaceAll(/\s*\n\s*/g, "; "));
  }

  /** The error result object. */
  toResult(cniVersion: string): Record<string, unknown> {
    return {
      cniVersion,
      code: this.code,
      msg: this.message,
      ...(this.details === "" ? {} : { details: this.details }),
    };
  }
}

/** A value of the network config that cannot be used. */
export function invalid(message: string): CniError {
  return new CniError(CODES.invalidConfig, message);
}
