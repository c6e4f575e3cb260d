/**
 * What the environment says of AWS credentials.
 *
 * @module
 */
import { type Environment, refusal } from "./credentials_fault.ts";
import { requireToken } from "./credentials_files.ts";

/** Hosts that the SDK asks for a container's credentials without TLS: loopback, ECS's and EKS's. */
const CONTAINER_HOSTS =
  /^(localhost|127(\.\d+){3}|\[::1\]|169\.254\.170\.(2|23)|\[fd00:ec2::23\])$/;

/** Whether the environment has keys. @throws {Ec2Fault} where it has a part of them */
export function hasKeys(env: Environment): boolean {
  const [id, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
  if (!hasPair(env, id, secret)) {
    if (env("AWS_SESSION_TOKEN")) {
      throw refusal(`AWS_SESSION_TOKEN is set without ${id} and ${secret}: set all, or none`);
    }
    // Names that Go programs take, too.
    if (env("AWS_ACCESS_KEY") && env("AWS_SECRET_KEY")) {
      throw refusal(`AWS_ACCESS_KEY and AWS_SECRET_KEY are old names: set ${id} and ${secret}`);
    }
    return false;
  }
  for (const name of [id, secret, "AWS_SESSION_TOKEN"]) {
    // Files that such values are from often end in a line break, which no header may have.
    if (/[^!-~]/.test(env(name) ?? "")) {
      throw refusal(`${name} has a space, a line break or the like in it: remove that`);
    }
  }
  const ends = env("AWS_CREDENTIAL_EXPIRATION");
  if (ends && !(Date.parse(ends) > Date.now())) {
    throw refusal(
      Number.isNaN(Date.parse(ends))
        ? `AWS_CREDENTIAL_EXPIRATION is ${JSON.stringify(ends)}, which is not a time`
        : `those in the environment expired at ${ends} (AWS_CREDENTIAL_EXPIRATION): restart ` +
          "flanneld with new ones, or use a way that renews them, such as the instance's role",
    );
  }
  return true;
}

/**
 * Whether there is a token to be exchanged for a role's credentials (EKS, other Kubernetes).
 *
 * @throws {Ec2Fault} where there is only a part of that
 */
export async function hasWebIdentity(env: Environment): Promise<boolean> {
  const file = "AWS_WEB_IDENTITY_TOKEN_FILE";
  if (!hasPair(env, file, "AWS_ROLE_ARN")) return false;
  await requireToken(file, env(file)!);
  return true;
}

/**
 * Whether a container's agent has credentials (ECS, EKS Pod Identity).
 *
 * @throws {Ec2Fault} where it cannot be asked
 */
export async function hasContainer(env: Environment): Promise<boolean> {
  const full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  const relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  if (!full && !relative) return false;
  if (full && !relative) {
    const url = URL.parse(full);
    if (url?.protocol !== "http:" || !CONTAINER_HOSTS.test(url.hostname)) {
      throw refusal(
        `AWS_CONTAINER_CREDENTIALS_FULL_URI is ${JSON.stringify(full)}: flanneld accepts only ` +
          "http:// on loopback, 169.254.170.2 (ECS), or 169.254.170.23 or [fd00:ec2::23] (EKS)",
      );
    }
  }
  const file = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  if (file) await requireToken("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file);
  return true;
}

/** Whether the instance metadata service is not to be asked. */
export function metadataDisabled(env: Environment): boolean {
  return env("AWS_EC2_METADATA_DISABLED")?.toLowerCase() === "true";
}

function hasPair(env: Environment, one: string, other: string): boolean {
  for (const [set, unset] of [[one, other], [other, one]]) {
    if (env(set) && !env(unset)) {
      throw refusal(`${set} is set without ${unset}: set both, or neither`);
    }
  }
  return Boolean(env(one));
}
