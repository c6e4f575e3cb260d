/**
 * Which way AWS credentials come from: decided by the environment and the shared files alone, in the
 * order of AWS's SDK for JavaScript.
 *
 * The SDK tries one way after another, so that a mistake in one silently becomes another identity,
 * mostly the instance's role. Here the first way that is configured is the one; what is wrong with it
 * is an error.
 *
 * @module
 */
import {
  hasContainer,
  hasKeys,
  hasWebIdentity,
  metadataDisabled,
} from "./credentials_environment.ts";
import { credentialsFault, type Environment, refusal } from "./credentials_fault.ts";
import { type Profiles, readProfiles, sharedFiles } from "./credentials_files.ts";
import { checkProfile, hasCredentials } from "./credentials_profile.ts";
import type { Ec2Fault } from "./faults.ts";

/** Where credentials come from. */
export interface Way {
  kind: "environment" | "profile" | "web identity" | "container" | "instance";
  /** Of the shared files. */
  profile?: string;
  /** The way in a few words, to be logged. */
  source: string;
}

/**
 * The way that is configured.
 *
 * @throws {Ec2Fault} where it is incomplete, or one that this program does not support
 */
export async function chooseWay(env: Environment): Promise<Way> {
  const named = env("AWS_PROFILE");
  if (named) return await profileWay(await readProfiles(env), named, env);
  if (hasKeys(env)) return { kind: "environment", source: "AWS_ACCESS_KEY_ID" };
  if (env("AWS_DEFAULT_PROFILE")) {
    throw refusal(
      "AWS_DEFAULT_PROFILE is an old name, which flanneld does not read: set AWS_PROFILE",
    );
  }
  const profiles = await readProfiles(env);
  if (hasCredentials(profiles, "default")) return await profileWay(profiles, "default", env);
  if (await hasWebIdentity(env)) {
    const source = `AWS_WEB_IDENTITY_TOKEN_FILE, for the role ${env("AWS_ROLE_ARN")}`;
    return { kind: "web identity", source };
  }
  if (await hasContainer(env)) {
    const uri = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
      env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    return { kind: "container", source: `the container's credentials at ${uri}` };
  }
  if (metadataDisabled(env)) throw noCredentials(env, "AWS_EC2_METADATA_DISABLED is true");
  return { kind: "instance", source: "the instance's role" };
}

async function profileWay(profiles: Profiles, profile: string, env: Environment): Promise<Way> {
  await checkProfile(profiles, profile, env);
  const role = profiles[profile]?.role_arn;
  const source = `profile "${profile}"${role ? `, for the role ${role}` : ""}`;
  return { kind: "profile", profile, source };
}

/** The error where nothing is configured; `role` says why the instance's role is not there. */
export function noCredentials(env: Environment, role: string): Ec2Fault {
  const { credentials, config } = sharedFiles(env);
  const tried = [
    "AWS_ACCESS_KEY_ID is not set",
    `neither ${credentials} nor ${config} has a profile "default" with credentials`,
    "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI is not set",
    role,
  ].join("; ");
  return credentialsFault(
    `none: ${role}`,
    `no AWS credentials (${tried}): give the instance a role, or set AWS_ACCESS_KEY_ID and ` +
      "AWS_SECRET_ACCESS_KEY, or the shared credentials file",
  );
}
