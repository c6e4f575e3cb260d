/**
 * Other CNI plugins: found in CNI_PATH and run.
 *
 * @module
 */
import { CniError, CODES } from "./errors.ts";
import type { CniCommand, Invocation } from "./invocation.ts";
import { isObject, type JsonObject, parseObject } from "./netconf.ts";

/** Path of a plugin's executable; undefined where no folder has it. */
export function findPlugin(type: string, path: readonly string[]): string | undefined {
  return path.map((folder) => `${folder}/${type}`).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    const { isFile, mode } = Deno.statSync(path);
    return isFile && ((mode ?? 0) & 0o111) !== 0;
  } catch {
    return false;
  }
}

/**
 * Finds a plugin.
 *
 * @throws {CniError} that says where it was looked for
 */
export function requirePlugin(type: string, path: readonly string[]): string {
  const found = findPlugin(type, path);
  if (found !== undefined) return found;
  const places = path.length === 0 ? "CNI_PATH, which is empty" : path.join(", ");
  throw new CniError(
    CODES.invalidConfig,
    `no plugin ${JSON.stringify(type)} in ${places}`,
    "install it there, or set another one in delegate.type or ipam.type",
  );
}

/** One run of a plugin. */
export interface PluginCall {
  /** Path of its executable. */
  program: string;
  /** Its type, for errors. */
  type: string;
  command: CniCommand;
  config: JsonObject;
  /** Variables in place of this process's own. */
  env?: Record<string, string>;
}

/**
 * Runs a plugin with this call's environment, its standard error being ours.
 *
 * @param meanwhile done while the plugin runs
 * @returns its result; undefined where it printed none
 * @throws {CniError} its error, under its code
 */
export async function runPlugin(
  { program, type, command, config, env = {} }: PluginCall,
  { path, variables }: Pick<Invocation, "path" | "variables">,
  meanwhile: () => void = () => {},
): Promise<JsonObject | undefined> {
  const child = new Deno.Command(program, {
    env: { ...variables, ...env, CNI_COMMAND: command, CNI_PATH: path.join(":") },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const writer = child.stdin.getWriter();
  // A plugin that ended without reading to the end says why by its status and its error.
  const fed = writer.write(new TextEncoder().encode(JSON.stringify(config)))
    .then(() => writer.close()).catch(() => {});
  meanwhile();
  const [{ success, code, signal, stdout }] = await Promise.all([child.output(), fed]);
  const text = new TextDecoder().decode(stdout).trim();
  if (!success) throw pluginError(type, command, text, signal ?? `status ${code}`);
  return text === "" ? undefined : parseObject(text, `${type}'s answer to ${command}`);
}

function pluginError(type: string, command: string, output: string, ending: string): CniError {
  let told: unknown;
  try {
    told = JSON.parse(output);
  } catch {
    // Told below as it came.
  }
  if (isObject(told) && typeof told.msg === "string" && typeof told.code === "number") {
    const details = typeof told.details === "string" ? told.details : "";
    return new CniError(told.code, `plugin ${type} failed (${command}): ${told.msg}`, details);
  }
  const rest = output === "" ? "without an error message" : output.replaceAll(/\s+/g, " ");
  return new CniError(
    CODES.internal,
    `plugin ${type} failed (${command}): ended with ${ending}: ${rest}`,
  );
}
