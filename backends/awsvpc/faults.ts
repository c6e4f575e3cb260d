/**
 * What EC2 refuses, in words that say what to do.
 *
 * Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
 *
 * @module
 */

/** Whose fault it is, as far as one can tell. */
export type FaultKind =
  | "throttled"
  | "unauthorized"
  | "credentials"
  | "unreachable"
  | "metadata"
  | "server"
  | "refused";

/** What went wrong; its message is one line. */
export class Ec2Fault extends Error {
  override name = "Ec2Fault";

  constructor(
    readonly kind: FaultKind,
    /** The call: `CreateRoute`. */
    readonly action: string,
    /** EC2's error code: `RouteLimitExceeded`. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** Whether EC2 answered with one of these codes. */
  is(...codes: string[]): boolean {
    return codes.includes(this.code);
  }
}

const THROTTLED = new Set([
  ...["RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled"],
  ...["RequestThrottledException", "ThrottledException", "EC2ThrottledException"],
  ...["TooManyRequestsException", "SlowDown"],
]);

const UNAUTHORIZED = new Set(["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"]);

const CREDENTIALS = new Set([
  ...["AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "ExpiredToken"],
  ...[
    "ExpiredTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
  ],
  ...["OptInRequired", "Blocked", "PendingVerification"],
]);

/** Some hundred characters that tell nothing to who may not decode them. */
const ENCODED = /\s*Encoded authorization failure message: \S+/;

/** An error of the SDK, as far as it is read. */
interface SdkError {
  name?: string;
  message?: string;
  code?: string;
  $metadata?: { httpStatusCode?: number; requestId?: string };
}

/** The fault behind an error that the SDK threw in a call. */
export function faultOf(action: string, error: unknown): Ec2Fault {
  if (error instanceof Ec2Fault) return error;
  const { name = "", message = "", code, $metadata } = error as SdkError;
  const status = $metadata?.httpStatusCode;
  const text = message.trim().replace(ENCODED, "").replaceAll(/\s*\n\s*/g, " ") || name;
  if (status === undefined) {
    return new Ec2Fault("unreachable", action, code ?? name, `EC2 cannot be reached: ${text}`);
  }
  const request = $metadata?.requestId ? `, request id: ${$metadata.requestId}` : "";
  const answer = `${name}: ${withoutStop(text)}. status code: ${status}${request}`;
  if (THROTTLED.has(name)) {
    return new Ec2Fault("throttled", action, name, `EC2 limits this account's calls (${name})`);
  }
  if (CREDENTIALS.has(name)) {
    return new Ec2Fault("credentials", action, name, `EC2 takes no call from us: ${answer}`);
  }
  if (UNAUTHORIZED.has(name) || status === 403) {
    return new Ec2Fault("unauthorized", action, name, answer);
  }
  if (status >= 500) {
    return new Ec2Fault("server", action, name, `EC2 failed in ${action}: ${answer}`);
  }
  return new Ec2Fault("refused", action, name, `EC2 refuses ${action}: ${answer}`);
}

function withoutStop(text: string): string {
  return text.replace(/\.$/, "");
}

/** One line that says what to do, for the log. */
export function advice(fault: Ec2Fault): string {
  if (fault.kind !== "unauthorized") return fault.message;
  return `${fault.message}; allow ec2:${fault.action} in the IAM policy of this instance's role`;
}
