/**
 * Why a request did not come to an answer, in a line that names the host.
 *
 * @module
 */

/** What kept a request from its answer; its message is one line. */
export class TransportError extends Error {
  override name = "TransportError";

  constructor(
    /** Node's code, such as `ECONNREFUSED`, or one of this backend's own. */
    readonly code: string,
    message: string,
  ) {
    super(plainText(message));
  }
}

/** Characters of a message that is worth reading; IAM's name several ARNs. */
const LONGEST = 800;

/** A message as part of a line. Servers have a say in what errors say: one line, of which nothing steers a terminal. */
export function plainText(message: string): string {
  // deno-lint-ignore no-control-regex
  const text = message.replaceAll(/[\x00-\x1f\x7f-\x9f\s]+/g, " ");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** Node's codes for chains that lead to no trusted authority. */
const UNTRUSTED = new Set([
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_SIGNATURE_FAILURE",
]);

/** Says what failed on the way to `host` and, where one knows, what to do. */
export function transportError(error: unknown, host: string, trust = ""): TransportError {
  if (error instanceof TransportError) return error;
  const { code = "", message } = rootOf(error);
  const text = message || code || "no reason given";
  return new TransportError(code || "Transport", reason(code, text, host, trust));
}

function reason(code: string, text: string, host: string, trust: string): string {
  if (UNTRUSTED.has(code)) {
    return `no authority in ${trust} has signed the certificate of ${host} (${text}): if a ` +
      "private endpoint or a proxy that inspects TLS is meant, name its authority's PEM file in " +
      "AWS_CA_BUNDLE";
  }
  switch (code) {
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the certificate of ${host} is for other names (${text})`;
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID":
      return `the certificate of ${host} is not valid now (${text}): check this node's clock`;
    case "ERR_SSL_WRONG_VERSION_NUMBER":
      return `${host} does not speak TLS: is its URL to begin with http://?`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name of ${host} cannot be resolved (${text})`;
    default:
      return `${host}: ${text}`;
  }
}

/** One error of those for several addresses of a host. */
function rootOf(error: unknown): { code?: string; message: string } {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  if (error instanceof Error) return error;
  return { message: String(error) };
}
