/**
 * AWS's shared files, `~/.aws/config` and `~/.aws/credentials`: read strictly, since the SDK takes a
 * file that cannot be read, and a line that it does not understand, for nothing at all.
 *
 * @module
 */
import { getHomeDir, type ParsedIniData, parseKnownFiles } from "@smithy/core/config";
import { type Environment, refusal } from "./credentials_fault.ts";

/** Where the shared files are. */
export interface SharedFiles {
  credentials: string;
  config: string;
}

/** The profiles of both files by name, a profile's settings by name. */
export type Profiles = ParsedIniData;

/** Bytes; people's files have a few thousand. */
const LARGEST_FILE = 1_000_000;

/** Where the SDK looks for the shared files. */
export function sharedFiles(env: Environment): SharedFiles {
  const path = (variable: string, name: string) =>
    (env(variable) || `~/.aws/${name}`).replace(/^~(?=\/)/, () => getHomeDir());
  return {
    credentials: path("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
    config: path("AWS_CONFIG_FILE", "config"),
  };
}

/**
 * The profiles as the SDK reads them, now.
 *
 * @throws {Ec2Fault} where a file cannot be read, is not there though a variable names it, or has a
 *   line that is no setting
 */
export async function readProfiles(env: Environment): Promise<Profiles> {
  const { credentials, config } = sharedFiles(env);
  for (
    const [variable, path] of [
      ["AWS_SHARED_CREDENTIALS_FILE", credentials],
      ["AWS_CONFIG_FILE", config],
    ]
  ) {
    const text = await readText(path, env(variable) ? variable : undefined);
    const line = strangeLine(text);
    if (line > 0) {
      throw refusal(
        `${path}, line ${line}, is neither a [section] nor a setting in one: correct the file`,
      );
    }
    const passedOver = passedOverLine(text, path === credentials && path !== config);
    if (passedOver) throw refusal(`${path}, ${passedOver}`);
  }
  return await parseKnownFiles({
    filepath: credentials,
    configFilepath: config,
    ignoreCache: true,
  });
}

/**
 * Checks that a file with a token is there; what reads it later tells less of what is wrong.
 *
 * @param setting what names the file
 * @param fix what to do where this program is not permitted to read it
 * @throws {Ec2Fault} where it cannot be read
 */
export async function requireToken(
  setting: string,
  path: string,
  fix = "name another file",
): Promise<void> {
  const { state } = await Deno.permissions.query({ name: "read", path });
  if (state !== "granted") {
    throw refusal(`${setting} names ${path}, which flanneld is not permitted to read: ${fix}`);
  }
  const text = await readText(path, setting);
  if (text.trim() === "") throw refusal(`${setting} names ${path}, which is empty`);
}

/** @param setting what names the file; without one it need not be there */
async function readText(path: string, setting?: string): Promise<string> {
  const named = setting ? `${setting} names ${path}, which` : path;
  try {
    const { size, isFile, isCharDevice } = await Deno.stat(path);
    // A pipe would keep the reader for ever; /dev/null is what people name for no file.
    if (!isFile && !isCharDevice) throw refusal(`${named} is not a file`);
    if (size > LARGEST_FILE) throw refusal(`${named} has ${size} bytes: is it the right file?`);
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      if (!setting) return "";
      throw refusal(`${named} does not exist: create it, or unset ${setting}`);
    }
    if (!(error instanceof Error) || error.name === "Ec2Fault") throw error;
    throw refusal(`${named} cannot be read: ${error.message.replace(/, run again with.*/s, "")}`);
  }
}

/** Settings without which the SDK would take another identity. */
const NAMES =
  /^(aws_access_key_id|aws_secret_access_key|aws_session_token|role_arn|source_profile|credential_source|web_identity_token_file)$/;

/** What the SDK passes over though somebody meant it; undefined where there is nothing such. */
function passedOverLine(text: string, isCredentials: boolean): string | undefined {
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const content = line.split(/(?:^|\s)[;#]/)[0];
    const at = `line ${index + 1}`;
    if (isCredentials && /^\[\s*profile\s+default\s*\]$/.test(content.trim())) {
      return `${at}: in this file the section is [default], without the word profile`;
    }
    // Indented lines are parts of another setting.
    const [, name, value] = /^(\S[^=]*?)\s*=\s*(.*)$/.exec(content) ?? [];
    if (name === undefined) continue;
    const meant = name.replace(/^export\s+/i, "").toLowerCase();
    if (!NAMES.test(meant)) continue;
    if (name !== meant) return `${at}: write ${meant} in place of ${JSON.stringify(name)}`;
    if (value.trim() === "") return `${at}: ${name} has no value`;
  }
  return undefined;
}

/** The number of the first line that the SDK would skip, though it is not a comment; or 0. */
function strangeLine(text: string): number {
  let inSection = false;
  const lines = text.split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    const [content] = line.split(/(?:^|\s)[;#]/);
    const setting = content.trim();
    if (setting === "") continue;
    const isSection = setting.startsWith("[") && setting.endsWith("]");
    inSection ||= isSection;
    if (!isSection && !(inSection && setting.indexOf("=") > 0)) return index + 1;
  }
  return 0;
}
