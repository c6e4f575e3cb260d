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
    reason: string,
    /** What to do about it, as the rest of a line. */
    readonly fix?: string,
  ) {
    super(plainText(reason));
  }
}

/** Characters of a message that is worth reading; IAM's name several ARNs. */
const LONGEST = 800;

/**
 * A message as part of a line. Servers have a say in what errors say: one line, of which nothing
 * steers a terminal.
 */
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

/** Connections that come to nothing. */
const NO_WAY = new Set(["ETIMEDOUT", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH"]);
const NO_NAME = new Set(["ENOTFOUND", "EAI_AGAIN"]);

const WAY_FIX =
  "give this subnet a way there: an internet or NAT gateway, a VPC endpoint for the " +
  "service, or a proxy in HTTPS_PROXY";
const AUTHORITY_FIX =
  "if it is a private endpoint, or a proxy inspects TLS, name the PEM file of " +
  "its authority in AWS_CA_BUNDLE";

/**
 * Says what failed on the way to a server and, where one knows, what to do.
 *
 * @param host names the server
 * @param trust names the authorities that its certificate was checked by
 */
export function transportError(error: unknown, host: string, trust = ""): TransportError {
  if (error instanceof TransportError) return error;
  const { code = "Transport", message } = rootOf(error);
  const because = message ? ` (${message})` : "";
  if (UNTRUSTED.has(code)) {
    const reason = `no authority in ${trust} has signed the certificate of ${host}${because}`;
    return new TransportError(code, reason, AUTHORITY_FIX);
  }
  if (NO_NAME.has(code)) {
    return new TransportError(code, `the name of ${host} cannot be resolved${because}`, WAY_FIX);
  }
  switch (code) {
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return new TransportError(
        code,
        `the certificate of ${host} does not cover that name${because}`,
      );
    case "CERT_HAS_EXPIRED":
    case "CERT_NOT_YET_VALID": {
      const reason = `the certificate of ${host} is not valid now${because}`;
      return new TransportError(code, reason, "check this node's clock (timedatectl)");
    }
    case "ERR_SSL_WRONG_VERSION_NUMBER": {
      const fix = "if it is an endpoint without TLS, use http:// in its URL";
      return new TransportError(code, `${host} does not speak TLS`, fix);
    }
  }
  const fix = NO_WAY.has(code) ? WAY_FIX : undefined;
  return new TransportError(code, `${host}: ${message || code}`, fix);
}

/** The same on the way to a proxy, which the node is told to go through. */
export function proxyError(error: unknown, name: string, trust?: string): TransportError {
  const { code, message, fix } = transportError(error, name, trust);
  const reason = message.includes(name) ? message : `${name}: ${message}`;
  const instead = fix === WAY_FIX ? "check the proxy, and the variable that names it" : fix;
  return new TransportError(`Proxy.${code}`, reason, instead);
}

/** One error of those for several addresses of a host. */
function rootOf(error: unknown): { code?: string; message: string } {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  if (error instanceof Error) return error;
  return { message: String(error) };
}
