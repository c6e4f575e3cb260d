/**
 * What a profile of AWS's shared files needs, and what of it this program does not support.
 *
 * The cases are those of the SDK's own provider for profiles, in its order, so that a profile that
 * passes is one that the SDK has credentials for.
 *
 * @module
 */
import { hasContainer, hasKeys, metadataDisabled } from "./credentials_environment.ts";
import { type Environment, refusal } from "./credentials_fault.ts";
import { type Profiles, requireToken, sharedFiles } from "./credentials_files.ts";

/** Settings of which one makes a profile one with credentials. */
const CREDENTIALS = [
  ...["aws_access_key_id", "aws_secret_access_key", "aws_session_token"],
  ...["role_arn", "source_profile", "credential_source", "web_identity_token_file"],
  ...["credential_process", "login_session"],
  ...["sso_session", "sso_start_url", "sso_account_id", "sso_region", "sso_role_name"],
];

/** Why ways to get credentials are not supported, by the beginning of their settings' names. */
const UNSUPPORTED: [prefix: string, why: string][] = [
  ["credential_process", "flanneld does not run programs to get credentials"],
  ["sso_", "it needs someone to log in repeatedly"],
  ["login_session", "it needs someone to log in repeatedly"],
];

const INSTEAD =
  "use role_arn with credential_source, a web identity or keys, or remove the profile " +
  "to use the instance's role";

/** Whether the profile is there and says where credentials come from, in whatever way. */
export function hasCredentials(profiles: Profiles, profile: string): boolean {
  const settings = settingsOf(profiles, profile);
  return settings !== undefined && CREDENTIALS.some((name) => settings[name] !== undefined);
}

/**
 * Checks that the profile's credentials can be had.
 *
 * @param sources profiles that led here as their `source_profile`
 * @throws {Ec2Fault} where they cannot
 */
export async function checkProfile(
  profiles: Profiles,
  profile: string,
  env: Environment,
  sources: readonly string[] = [],
): Promise<void> {
  const refuse = (reason: string) => refusal(`profile "${profile}" ${reason}`);
  const settings = settingsOf(profiles, profile);
  if (settings === undefined) throw missing(profile, env, sources);
  const keys = hasKeyPair(settings, refuse);
  if (keys && sources.length > 0) return;
  const { role_arn, source_profile, credential_source, web_identity_token_file } = settings;
  if (keys && role_arn === undefined) return;
  if (source_profile !== undefined || credential_source !== undefined) {
    // A source without a role of its own is another's source.
    if (role_arn === undefined && (sources.length === 0 || source_profile !== undefined)) {
      throw refuse("has source_profile or credential_source, but no role_arn: add it");
    }
    return await checkRole(profiles, profile, env, sources);
  }
  if (keys) return;
  if (web_identity_token_file !== undefined) {
    if (role_arn === undefined) {
      throw refuse("has web_identity_token_file, but no role_arn: add it");
    }
    const setting = `web_identity_token_file of profile "${profile}"`;
    const also = `set AWS_WEB_IDENTITY_TOKEN_FILE=${web_identity_token_file} as well, since ` +
      "flanneld reads only files that variables name";
    return await requireToken(setting, web_identity_token_file, also);
  }
  for (const [prefix, why] of UNSUPPORTED) {
    const name = Object.keys(settings).find((name) => name.startsWith(prefix));
    if (name) throw refuse(`has ${name}, which is not supported (${why}): ${INSTEAD}`);
  }
  throw refuse(
    role_arn === undefined
      ? "has no credentials: add some, or unset AWS_PROFILE to use the instance's role"
      : "has role_arn alone: add source_profile, credential_source or web_identity_token_file",
  );
}

/** A role, and where the credentials that it is assumed with come from. */
async function checkRole(
  profiles: Profiles,
  profile: string,
  env: Environment,
  sources: readonly string[],
): Promise<void> {
  const refuse = (reason: string) => refusal(`profile "${profile}" ${reason}`);
  const { source_profile, credential_source, mfa_serial, duration_seconds } = profiles[profile] ??
    {};
  if (source_profile !== undefined && credential_source !== undefined) {
    throw refuse("has both source_profile and credential_source: remove one of them");
  }
  if (mfa_serial !== undefined) {
    throw refuse(
      `has mfa_serial, which is not supported (no one is there to enter a code): ${INSTEAD}`,
    );
  }
  if (duration_seconds !== undefined && !/^\d+$/.test(duration_seconds)) {
    throw refuse(`has duration_seconds ${JSON.stringify(duration_seconds)}, which is not a number`);
  }
  if (source_profile !== undefined) {
    if (sources.includes(source_profile)) {
      throw refuse(`leads back to profile "${source_profile}": correct its source_profile`);
    }
    return await checkProfile(profiles, source_profile, env, [...sources, source_profile]);
  }
  const has = credential_source === "Environment"
    ? hasKeys(env)
    : credential_source === "EcsContainer"
    ? await hasContainer(env)
    : credential_source === "Ec2InstanceMetadata"
    ? !metadataDisabled(env)
    : undefined;
  const source = `has credential_source ${credential_source}`;
  if (has === undefined) {
    throw refuse(`${source}: it must be Environment, EcsContainer or Ec2InstanceMetadata`);
  }
  if (!has) throw refuse(`${source}, but there are no credentials: ${NEEDED[credential_source!]}`);
}

/** What the ways of `credential_source` need. */
const NEEDED: Record<string, string> = {
  Environment: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  EcsContainer: "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set",
  Ec2InstanceMetadata: "AWS_EC2_METADATA_DISABLED is true",
};

/** A name from outside is not looked for in what every object has. */
function settingsOf(profiles: Profiles, profile: string) {
  return Object.hasOwn(profiles, profile) ? profiles[profile] : undefined;
}

function missing(profile: string, env: Environment, sources: readonly string[]) {
  const { credentials, config } = sharedFiles(env);
  const by = sources.length > 0 ? "source_profile" : "AWS_PROFILE";
  const heading = profile === "default" ? profile : `profile ${profile}`;
  return refusal(
    `${by} names profile "${profile}", which does not exist: add it as [${profile}] to ` +
      `${credentials} or as [${heading}] to ${config}, or correct ${by}`,
  );
}

function hasKeyPair(
  settings: Partial<Record<string, string>>,
  refuse: (reason: string) => Error,
): boolean {
  const [id, secret] = ["aws_access_key_id", "aws_secret_access_key"];
  const given = [id, secret, "aws_session_token"].filter((name) => settings[name] !== undefined);
  if (given.length === 0) return false;
  for (const name of [id, secret]) {
    if (!given.includes(name)) throw refuse(`has ${given.join(" and ")}, but no ${name}: add it`);
  }
  return true;
}
