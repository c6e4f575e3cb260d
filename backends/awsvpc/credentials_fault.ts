/**
 * Faults of AWS credentials, in words that say what to do.
 *
 * @module
 */
import { Ec2Fault } from "./faults.ts";

/** Reads a variable; undefined where it is not set. */
export type Environment = (name: string) => string | undefined;

/** A configuration that is wrong, or not supported: one line that says what to do. */
export function refusal(reason: string): Ec2Fault {
  return credentialsFault(reason, `AWS credentials: ${reason}`);
}

/** @param code tells one fault from the next, so that each is logged */
export function credentialsFault(code: string, message: string): Ec2Fault {
  return new Ec2Fault("credentials", "credentials", code, message);
}
