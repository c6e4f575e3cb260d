/**
 * What may keep etcd from answering, as one line that says what to do.
 *
 * @module
 */
import { EtcdLeaseInvalidError } from "etcd3";
import { certificateDates, CertificateFileError } from "./certificates.ts";
import type { EtcdAccess } from "./channel.ts";
import { probe } from "./probe.ts";
import { quote } from "../../base/json.ts";

/**
 * What stands in the way, which also tells whom to ask for help. Of several endpoints' faults the one
 * that comes last here says most: waiting does not mend it.
 */
const KINDS = ["unreachable", "permission", "login", "certificate", "scheme"] as const;

/** One of them. */
export type FaultKind = typeof KINDS[number];

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

/** etcd does not have the revision that was to be read: compacted away, or not written yet. */
export class RevisionGoneError extends EtcdFault {
  override name = "RevisionGoneError";
}

/** The etcd lease of a key that was to be put has ended. */
export class LeaseEndedError extends Error {
  override name = "LeaseEndedError";
}

/**
 * An endpoint's error as one line that says what to do; never with the password, which no cause holds.
 * Connects once more where the error does not tell enough.
 *
 * @param hasAnswered whether etcd ever did
 */
export async function faultOf(
  error: unknown,
  endpoint: string,
  access: EtcdAccess,
  hasAnswered: boolean,
): Promise<EtcdFault> {
  if (error instanceof EtcdFault) return error;
  const text = messageOf(error);
  if (isTooLarge(error)) {
    return new AnswerTooLargeError("unreachable", `etcd's answer is too large: ${text}`, error);
  }
  if (isRevisionGone(error)) {
    return new RevisionGoneError("unreachable", `etcd at ${endpoint} refuses: ${text}`, error);
  }
  const { kind, clause } = await causeOf(error, text, endpoint, access, hasAnswered);
  return new EtcdFault(kind, `etcd at ${endpoint} ${clause}`, error);
}

/** The faults of several endpoints as one, in the order in which they were given. */
export function faultOfAll(faults: readonly EtcdFault[]): EtcdFault {
  const [worst] = faults.toSorted((a, b) => KINDS.indexOf(b.kind) - KINDS.indexOf(a.kind));
  const messages = new Set(faults.map(({ message }) => message));
  return new EtcdFault(worst.kind, [...messages].join("; "), worst.cause);
}

/** For an endpoint that does not speak the protocol which its URL names. */
const OTHER_PROTOCOL = {
  tls: "speaks TLS: use https:// in --etcd-endpoints, and --etcd-cafile for the authority that " +
    "signed its certificate",
  http: "speaks HTTP without TLS: use http:// in --etcd-endpoints",
  "another protocol": "answers, but not as etcd: check the host and port in --etcd-endpoints",
};

/** What is wrong, in words that follow the endpoint. */
interface Cause {
  kind: FaultKind;
  clause: string;
}

async function causeOf(
  error: unknown,
  text: string,
  endpoint: string,
  access: EtcdAccess,
  hasAnswered: boolean,
): Promise<Cause> {
  if (error instanceof CertificateFileError) {
    return { kind: "certificate", clause: `cannot be contacted: ${text}` };
  }
  const cause = causeByText(text, endpoint, access);
  const isTls = endpoint.startsWith("https:");
  const hungUp = isTls && /EPIPE|ECONNRESET/.test(text);
  // An etcd that has answered speaks our protocol, and another endpoint should be asked soon.
  if (cause.kind !== "unreachable" || !(hungUp || (!hasAnswered && isBroken(text)))) return cause;
  const found = await probe(endpoint, access);
  if (found.speaks !== "unknown") return { kind: "scheme", clause: OTHER_PROTOCOL[found.speaks] };
  const probed = causeByText(found.text, endpoint, access);
  if (probed.kind !== "unreachable") return probed;
  return hungUp && !hasAnswered ? refusedCertificate(text, access) : cause;
}

/** Whether a connection was made and broke without a word about why. */
function isBroken(text: string): boolean {
  return /EPIPE|ECONNRESET|Failed to connect|socket (?:disconnected|hang up)|unsupported protocol|Connection (?:dropped|closed)|Protocol error|InvalidContentType|corrupt message/i
    .test(text);
}

function causeByText(text: string, endpoint: string, access: EtcdAccess): Cause {
  const { username, cafile } = access;
  if (/alert|bad certificate|certificate required/i.test(text)) {
    return refusedCertificate(text, access);
  }
  if (/altname|not valid for name/i.test(text)) {
    const { hostname } = new URL(endpoint);
    const clause =
      `has a certificate that does not cover ${hostname}: ${text}; use a name from the ` +
      "certificate in --etcd-endpoints";
    return { kind: "certificate", clause };
  }
  if (/has expired|CERT_HAS_EXPIRED|: Expired|CertExpired|not yet valid/i.test(text)) {
    const clause = `has a certificate that is not valid now: ${text}; renew it, or correct this ` +
      "host's clock";
    return { kind: "certificate", clause };
  }
  if (/unable to verify|unable to get|self[- ]signed|UnknownIssuer|certificate/i.test(text)) {
    const trusted = cafile ? `${cafile} (--etcd-cafile)` : "any authority that this host knows";
    const advice = cafile ? "check --etcd-cafile" : "set --etcd-cafile";
    const clause = `has a certificate that is not signed by ${trusted}: ${text}; ${advice}`;
    return { kind: "certificate", clause };
  }
  if (/authentication is not enabled/i.test(text)) {
    const clause = `rejects the login as ${quote(username ?? "")}: ${text}; remove ` +
      "--etcd-username, or enable authentication in etcd";
    return { kind: "login", clause };
  }
  if (/authentication failed|invalid auth token|user name is empty/i.test(text)) {
    const clause = username
      ? `rejects the user ${quote(username)}: ${text}; check --etcd-username and --etcd-password`
      : `requires a login: ${text}; set --etcd-username and --etcd-password`;
    return { kind: "login", clause };
  }
  if (/permission denied/i.test(text)) {
    const whom = username ? `the user ${quote(username)}` : "this node";
    const clause =
      `denies ${whom} access: ${text}; grant the user a role that may read and write ` +
      "below --etcd-prefix";
    return { kind: "permission", clause };
  }
  return { kind: "unreachable", clause: `is unreachable: ${text}` };
}

/**
 * For a server that does not take our certificate. With TLS 1.3 the handshake is over by then (RFC
 * 8446, 4.4.2.4), and its alert may be lost to a write of ours.
 */
function refusedCertificate(text: string, { certfile }: EtcdAccess): Cause {
  const clause = certfile
    ? `does not accept the client certificate ${certfile} (--etcd-certfile)` +
      `${certificateDates(certfile)}: ${text}; use one that etcd's --trusted-ca-file signed`
    : `requires a client certificate: ${text}; set --etcd-certfile and --etcd-keyfile`;
  return { kind: "certificate", clause };
}

/** Whether etcd answers, with no, so that another endpoint would say the same. */
export function isAnswer(error: unknown): boolean {
  return error instanceof EtcdLeaseInvalidError;
}

/** Whether gRPC refused an answer for its size, which is an answer all the same. */
export function isTooLarge(error: unknown): boolean {
  return /Received message larger than max/.test(messageOf(error));
}

/** Whether etcd answers that it does not have a revision, which is an answer all the same. */
export function isRevisionGone(error: unknown): boolean {
  return /required revision (?:has been compacted|is a future revision)/.test(messageOf(error));
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
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)\.?$/, "")
    .replace(/^\[?Error \[(\w+)\]: /, "")
    .replace(
      /^Name resolution failed for target dns:(.*?)(?::\d+)?$/,
      "the name $1 does not resolve",
    )
    .replace(
      /^Deadline exceeded after ([\d.]+)s.*/,
      (_, seconds) => `timeout after ${Math.round(Number(seconds))} s`,
    )
    .replace(/\.$/, "");
}
