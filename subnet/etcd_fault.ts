/**
 * What may keep etcd from answering, as one line that says what to do.
 *
 * @module
 */
import { EtcdLeaseInvalidError } from "etcd3";
import type { EtcdAccess } from "./etcd_channel.ts";

/** What stands in the way, which also tells whom to ask for help. */
export type FaultKind = "unreachable" | "certificate" | "login" | "permission";

/** etcd could not be asked; one line that names the endpoints, the cause and what to do. */
export class EtcdFault extends Error {
  override name = "EtcdFault";
  constructor(readonly kind: FaultKind, message: string, cause?: unknown) {
    super(message, { cause });
  }
}

/** What was to be read is larger than one answer may be: read less at a time. */
export class AnswerTooLargeError extends EtcdFault {
  override name = "AnswerTooLargeError";
}

/** The etcd lease of a key that was to be put has ended. */
export class LeaseEndedError extends Error {
  override name = "LeaseEndedError";
}

/**
 * The error as one line that says what to do; never with the password, which no cause holds.
 *
 * @param hasAnswered whether etcd ever did
 */
export function faultOf(error: unknown, access: EtcdAccess, hasAnswered: boolean): EtcdFault {
  if (error instanceof EtcdFault) return error;
  const { endpoints, username } = access;
  const text = messageOf(error);
  if (isTooLarge(error)) {
    return new AnswerTooLargeError("unreachable", `etcd's answer is too large: ${text}`, error);
  }
  const isTurnedAway = !hasAnswered && hungUp(text, endpoints);
  const kind = isTurnedAway ? "certificate" : kindOf(text);
  const where = endpoints.join(", ");
  const message = {
    unreachable: `etcd at ${where} is unreachable: ${text}`,
    certificate:
      `etcd at ${where} has a certificate that we do not trust, or does not trust ours: ${text}; ` +
      "check --etcd-cafile, --etcd-certfile and --etcd-keyfile",
    login: username
      ? `etcd at ${where} refuses the user ${username}: ${text}; ` +
        "check --etcd-username and --etcd-password"
      : `etcd at ${where} wants a user: ${text}; set --etcd-username and --etcd-password`,
    permission: `etcd at ${where} denies ${username || "us"} access: ${text}; ` +
      "grant the user a role that may read and write below --etcd-prefix",
  }[kind];
  return new EtcdFault(kind, message, error);
}

/**
 * Whether the server hung up, as one does before its first answer that does not take our certificate:
 * with TLS 1.3 the handshake is over by then (RFC 8446, 4.4.2.4), and its alert may be lost to a write
 * of ours.
 */
function hungUp(text: string, endpoints: string[]): boolean {
  return /EPIPE|ECONNRESET/.test(text) &&
    endpoints.some((endpoint) => endpoint.startsWith("https:"));
}

/** Whether etcd answers, with no, so that another endpoint would say the same. */
export function isAnswer(error: unknown): boolean {
  return error instanceof EtcdLeaseInvalidError;
}

/** Whether gRPC refused an answer for its size, which is an answer all the same. */
export function isTooLarge(error: unknown): boolean {
  return /Received message larger than max/.test(messageOf(error));
}

/** The error that says most: one that waiting does not mend before an endpoint that is away. */
export function worst(errors: unknown[]): unknown {
  return errors.find((error) => kindOf(messageOf(error)) !== "unreachable") ?? errors[0];
}

function kindOf(text: string): FaultKind {
  if (/certificate|UnknownIssuer|\bTLS\b|\bSSL\b|handshake/i.test(text)) return "certificate";
  if (/authentication failed|invalid auth token|user name is empty/i.test(text)) return "login";
  if (/permission denied/i.test(text)) return "permission";
  return "unreachable";
}

/** The innermost cause without gRPC's wrapping. */
function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text
    .replace(/^\w*Error: /, "")
    .replace(/^\d+ [A-Z_]+: /, "")
    .replace(/^No connection established\. Last error: /, "")
    .replace(/^(\w*Error: )+/, "")
    .replace(/\s+Resolution note:.*$/s, "")
    .split("\n")[0]
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)\.?$/, "");
}
