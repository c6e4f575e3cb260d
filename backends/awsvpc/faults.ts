/**
 * What EC2 refuses, in words that say what to do.
 *
 * Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
 *
 * @module
 */
import { denialFix, withoutEncoded } from "./denials.ts";
import { plainText, TransportError } from "./http_errors.ts";

/** Whose fault it is, as far as one can tell. */
export type FaultKind =
  | "throttled"
  | "unauthorized"
  | "credentials"
  | "unreachable"
  | "metadata"
  | "server"
  | "refused";

/** More about a fault. */
export interface FaultDetails {
  /** What to do about it, as the rest of a line: `allow ec2:CreateRoute in …`. */
  fix?: string;
  /** EC2's answer alone: code, message, status and request id. */
  answer?: string;
  /**
   * Milliseconds for which this is normal, since EC2 is eventually consistent: it is logged only if
   * it lasts longer.
   */
  grace?: number;
}

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
    readonly details: FaultDetails = {},
  ) {
    super(message);
  }

  /** Whether EC2 answered with one of these codes. */
  is(...codes: string[]): boolean {
    return codes.includes(this.code);
  }
}

/** One line that says what to do, for the log. */
export function advice({ message, details: { fix } }: Ec2Fault): string {
  return fix === undefined ? message : `${message}; ${fix}`;
}

const THROTTLED = new Set([
  ...["RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled"],
  ...["RequestThrottledException", "ThrottledException", "EC2ThrottledException"],
  ...["TooManyRequestsException", "SlowDown"],
]);

const UNAUTHORIZED = new Set(["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"]);

const CLOCK_FIX =
  "check this node's clock (timedatectl), and that the credentials have not expired";
const KEY_FIX = "check the access key, and that it belongs to this partition and region";
const SECRET_FIX = "check that the secret key matches the access key";
const EXPIRED_FIX = "renew the session token; credentials of a role are renewed automatically";

/** Codes that concern the caller, whatever the call; what to do about each. */
const CREDENTIALS = new Map(Object.entries({
  AuthFailure: `${KEY_FIX}; also check this node's clock (timedatectl)`,
  InvalidClientTokenId: KEY_FIX,
  UnrecognizedClientException: KEY_FIX,
  ExpiredToken: EXPIRED_FIX,
  ExpiredTokenException: EXPIRED_FIX,
  RequestExpired: CLOCK_FIX,
  RequestTimeTooSkewed: CLOCK_FIX,
  RequestInTheFuture: CLOCK_FIX,
  SignatureDoesNotMatch: SECRET_FIX,
  InvalidSignatureException: SECRET_FIX,
  IncompleteSignature: SECRET_FIX,
  MissingAuthenticationToken: "give the instance a role, or set AWS_ACCESS_KEY_ID and " +
    "AWS_SECRET_ACCESS_KEY",
  OptInRequired: "subscribe this account to EC2, and enable the region for it",
  Blocked: "AWS has blocked this account: contact AWS Support",
  PendingVerification: "AWS is still verifying this account: wait for its e-mail, or contact AWS " +
    "Support",
}));

/** Signature errors that are the clock's. */
const CLOCK = /expired|not yet current|skewed|still later than|earlier than/i;

/** AuthFailure has two meanings: these credentials are bad, or this resource is not the caller's. */
const BAD_CREDENTIALS = /validate the provided access credentials/i;

/** What to do about refusals with these codes. */
const FIXES = new Map(Object.entries({
  AuthFailure: "the resource may belong to another account, which shares it: only its owner can " +
    "change it",
  OperationNotPermitted:
    "another AWS service or account manages this resource: only it can change it",
  UnsupportedOperation: "this region, Outpost or kind of resource does not support the call: use " +
    "another backend, vxlan for example",
  InvalidAction: "this endpoint is not EC2's, or not all of it: check AWS_ENDPOINT_URL_EC2",
}));

/** EC2 itself has named these ids, so they are new rather than wrong. */
const NOT_FOUND_YET = /^Invalid(Instance|NetworkInterface|RouteTable|Subnet)ID\.NotFound$/i;

/** Milliseconds after which EC2 should know a new id. */
const GRACE = 30_000;

/** What the SDK appends to the error of an answer that it cannot read. */
const UNREADABLE = /\s*Deserialization error: to see the raw response[\s\S]*$/;

/** How the SDK's words for wrong settings begin; it makes no call then. */
const SETTING_FIXES = [
  ["Invalid URL", "correct AWS_ENDPOINT_URL_EC2 or AWS_ENDPOINT_URL: a URL begins with https://"],
  ["Region not accepted", "correct AWS_REGION"],
];

/** What the SDK calls errors without a code. */
const NAMELESS = new Set(["", "Unknown", "UnknownError"]);

const ENDPOINT_FIX = "check AWS_ENDPOINT_URL_EC2, and whether a proxy or firewall on the way " +
  "answers in EC2's place";

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
  const text = plainText(readable(withoutEncoded(message)).trim()) || name;
  if (status === undefined || error instanceof TransportError) {
    const reason = `EC2 cannot be reached: ${text}`;
    const fix = error instanceof TransportError
      ? error.fix
      : SETTING_FIXES.find(([begin]) => text.startsWith(begin))?.[1];
    return new Ec2Fault("unreachable", action, code ?? name, reason, { fix });
  }
  const request = $metadata?.requestId ? `, request id: ${$metadata.requestId}` : "";
  const answer = `${name}: ${withoutStop(text)}. status code: ${status}${request}`;
  if (status === 429 && !THROTTLED.has(name)) {
    return new Ec2Fault(
      "throttled",
      action,
      "429",
      "EC2 throttles this account's calls (status 429)",
    );
  }
  if (UNREADABLE.test(message) || NAMELESS.has(name)) {
    return strangeFault(action, UNREADABLE.test(message) ? text : "", status, request);
  }
  if (THROTTLED.has(name)) {
    return new Ec2Fault("throttled", action, name, `EC2 throttles this account's calls (${name})`);
  }
  const credentials = credentialsFix(action, name, text);
  if (credentials !== undefined) {
    return new Ec2Fault("credentials", action, name, `EC2 rejects this node's calls: ${answer}`, {
      answer,
      fix: credentials,
    });
  }
  if (UNAUTHORIZED.has(name) || status === 403 && !FIXES.has(name)) {
    return new Ec2Fault("unauthorized", action, name, answer, {
      answer,
      fix: denialFix(action, text),
    });
  }
  if (isFailure(status)) {
    const reason = `EC2 failed in ${action}: ${answer}`;
    return new Ec2Fault("server", action, name, reason, { answer });
  }
  return new Ec2Fault("refused", action, name, `EC2 refuses ${action}: ${answer}`, {
    answer,
    fix: FIXES.get(name),
    grace: NOT_FOUND_YET.test(name) ? GRACE : undefined,
  });
}

/** An answer without a code: one that was cut off, or not EC2's. */
function strangeFault(action: string, why: string, status: number, request: string): Ec2Fault {
  const what = why === "" ? "gives no reason" : `cannot be read (${withoutStop(why)})`;
  const answer = `the answer ${what}. status code: ${status}${request}`;
  const isRefusal = why === "" && !isFailure(status);
  return new Ec2Fault(
    isRefusal ? "refused" : "server",
    action,
    `Unreadable.${status}`,
    isRefusal ? `EC2 refuses ${action}: ${answer}` : `EC2 failed in ${action}: ${answer}`,
    { answer, fix: status < 500 ? ENDPOINT_FIX : undefined },
  );
}

/** Whether another attempt may have another answer: not with 501, "not implemented". */
function isFailure(status: number): boolean {
  return status >= 500 && status !== 501;
}

/** A message without the SDK's advice to its programmers. */
export function readable(message: string): string {
  return message.replace(UNREADABLE, "");
}

/** What to do where the credentials are at fault; undefined where they are not. */
function credentialsFix(action: string, code: string, message: string): string | undefined {
  const fix = CREDENTIALS.get(code);
  if (fix === undefined) return undefined;
  // A Describe call is for no resource that could be another account's.
  const ofResource = code === "AuthFailure" && !action.startsWith("Describe") &&
    !BAD_CREDENTIALS.test(message);
  if (ofResource) return undefined;
  return fix === SECRET_FIX && CLOCK.test(message) ? CLOCK_FIX : fix;
}

function withoutStop(text: string): string {
  return text.replace(/\.$/, "");
}
