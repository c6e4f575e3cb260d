/**
 * Reads from IAM's message which policy denied a call, and says who can fix that.
 *
 * Phrases: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
 *
 * @module
 */

/** Several hundred characters that only a privileged caller can decode. */
const ENCODED = /[\s.]*Encoded authorization failure message:\s*\S*/i;

const PRINCIPAL = /User: (arn:\S+)/;
const RESOURCE = /on resource: (arn:\S+)/;
const EXPLICIT = /explicit(?:ly)? den(?:y|ied)(?: in an? ([\w -]+? (?:policy|boundary)))?/i;
const IMPLICIT = /because no ([\w -]+? (?:policy|boundary)) allows/i;

/** Administered for the whole organization, not in the account. */
const ORGANIZATION = /^(service|resource) control policy$/i;
const ENDPOINT = /^VPC endpoint policy$/i;

/** What a message says of a denial. */
interface Denial {
  /** A policy has a Deny, which no Allow overrides. */
  explicit: boolean;
  /** "service control policy", for example; undefined where the message names none. */
  policy: string | undefined;
  /** `role NodeRole` or `user bob`; undefined where the message does not name it. */
  principal: string | undefined;
  /** The account that owns the resource, where that is not the caller's. */
  owner: string | undefined;
}

/** The message without the part that only `aws sts decode-authorization-message` can read. */
export function withoutEncoded(message: string): string {
  return message.replace(ENCODED, ".");
}

/**
 * What to do so that a call is not denied again.
 *
 * @param action the call, `CreateRoute`
 * @param message EC2's
 */
export function denialFix(action: string, message: string): string {
  const { explicit, policy = "", principal, owner } = parseDenial(message);
  const whom = principal === undefined ? "this instance's role" : `the ${principal}`;
  const call = `ec2:${action}`;
  if (explicit) {
    const name = policy || "policy";
    const article = /^[aeiou]/.test(name) ? "an" : "a";
    return `a Deny in ${article} ${name} forbids ${call}, which no Allow overrides: ask ` +
      `${administrator(policy)} to exempt ${whom} from it`;
  }
  if (owner !== undefined) {
    return `the resource belongs to account ${owner}: use a role of that account that allows ${call}`;
  }
  if (ORGANIZATION.test(policy)) {
    return `ask ${administrator(policy)} to allow ${call} in a ${policy}`;
  }
  if (ENDPOINT.test(policy)) return `allow ${call} in the policy of the VPC endpoint for EC2`;
  if (policy === "permissions boundary") {
    return `also allow ${call} in the permissions boundary of ${whom}`;
  }
  if (policy === "session policy") {
    return `allow ${call} in the session policy with which ${whom} is assumed`;
  }
  return `allow ${call} in the IAM policy of ${whom}`;
}

function administrator(policy: string): string {
  if (ORGANIZATION.test(policy)) return "the administrator of the AWS organization";
  if (ENDPOINT.test(policy)) return "the owner of the VPC endpoint";
  return "the administrator of the account's IAM policies";
}

function parseDenial(message: string): Denial {
  const explicit = EXPLICIT.exec(message);
  const caller = PRINCIPAL.exec(message)?.[1];
  const account = accountOf(caller);
  const owner = accountOf(RESOURCE.exec(message)?.[1]);
  return {
    explicit: explicit !== null,
    policy: explicit?.[1] ?? IMPLICIT.exec(message)?.[1],
    principal: nameOf(caller),
    owner: account !== undefined && owner !== account ? owner : undefined,
  };
}

/** `arn:aws:ec2:REGION:ACCOUNT:…` */
function accountOf(arn: string | undefined): string | undefined {
  return arn?.split(":")[4] || undefined;
}

/** `…:assumed-role/NodeRole/i-0abc` or `…:user/path/bob` */
function nameOf(arn: string | undefined): string | undefined {
  const [kind, ...path] = arn?.split(":").slice(5).join(":").split("/") ?? [];
  if (kind === "assumed-role") return `role ${path[0]}`;
  if (kind === "role" || kind === "user") return `${kind} ${path.at(-1)}`;
  return undefined;
}
