/**
 * What the SDK's providers of credentials fail with, in words that say what to do.
 *
 * @module
 */
import { credentialsFault, type Environment } from "./credentials_fault.ts";
import { noCredentials, type Way } from "./credentials_way.ts";
import { Ec2Fault, faultOf, readable } from "./faults.ts";
import { TransportError } from "./http_errors.ts";

/** An error of the SDK's, as far as it is read. */
interface ProviderError {
  name?: string;
  message?: string;
  code?: string;
  /** Of the instance metadata service. */
  statusCode?: number;
  /** Of STS. */
  $metadata?: { httpStatusCode?: number; requestId?: string };
}

/** The instance metadata service's and the container agent's; STS's have other names. */
const LOCAL = /ProviderError$|^InstanceMetadataV1FallbackError$/;

/** What to do about an answer of STS's. */
const STS_ADVICE: Record<string, string> = {
  AccessDenied:
    "allow it in the role's trust policy, and in the policy of the identity that it names",
  InvalidIdentityToken: "has the account an identity provider for the token's issuer?",
  ExpiredTokenException:
    "does something renew the token, or the keys that the role is assumed with?",
  InvalidClientTokenId: "correct the keys that the role is assumed with",
  SignatureDoesNotMatch: "correct the keys that the role is assumed with",
  RegionDisabledException: "activate STS for the region in the account's settings",
};

/** The fault behind what a way's provider threw. */
export function providerFault(way: Way, error: unknown, env: Environment): Ec2Fault {
  if (error instanceof Ec2Fault) return error;
  const { name = "", message = "", code, statusCode, $metadata } = error as ProviderError;
  const text = readable(message).trim().replaceAll(/\s*\n\s*/g, " ") || code || name;
  if ($metadata?.httpStatusCode !== undefined && !(error instanceof TransportError)) {
    return stsFault(way, error, text);
  }
  if (way.kind === "instance") {
    const reason = statusCode === 404
      ? "the instance has no role"
      : `the instance metadata service has none: ${text}${statusCode ? ` (${statusCode})` : ""}`;
    return noCredentials(env, reason);
  }
  if (way.kind === "container" || LOCAL.test(name)) {
    return credentialsFault(code ?? name, `no AWS credentials from ${way.source}: ${text}`);
  }
  return new Ec2Fault(
    "unreachable",
    "credentials",
    code ?? name,
    `STS cannot be reached for the credentials of ${way.source}: ${text}`,
    { fix: error instanceof TransportError ? error.fix : undefined },
  );
}

/** An answer of STS's. */
function stsFault({ source }: Way, error: unknown, text: string): Ec2Fault {
  const { kind, code } = faultOf("credentials", error);
  const { httpStatusCode, requestId } = (error as ProviderError).$metadata ?? {};
  const answer = `${code}: ${text.replace(/\.$/, "")}. status code: ${httpStatusCode}` +
    (requestId ? `, request id: ${requestId}` : "");
  if (kind === "throttled") {
    return new Ec2Fault(kind, "credentials", code, `STS throttles this account's calls (${code})`);
  }
  if (kind === "server") {
    return new Ec2Fault(kind, "credentials", code, `STS failed for ${source}: ${answer}`);
  }
  const advice = STS_ADVICE[code];
  return credentialsFault(
    code,
    `STS refuses credentials to ${source}: ${answer}${advice ? `; ${advice}` : ""}`,
  );
}
