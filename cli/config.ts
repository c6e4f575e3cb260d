/**
 * `flanneld config`: the network config in the store, without etcdctl.
 *
 * @module
 */
import { openStore } from "../subnet/registry.ts";
import { storeOptions } from "./agent_options.ts";
import { effectiveOptions, validateBackendConfig } from "../backends/registry.ts";
import { UsageError } from "../agent/errors.ts";
import {
  ConfigError,
  type FamilyConfig,
  type NetworkConfig,
  parseNetworkConfig,
  unknownKeyLines,
} from "../subnet/config.ts";
import { readTextFile } from "./files.ts";
import type { Settings } from "./parse.ts";

/** Prints the config as it is stored. Returns the exit status. */
export async function get(settings: Settings): Promise<number> {
  console.log(await stored(settings));
  return 0;
}

/**
 * Checks a config and writes it as it is given; prints what it wrote. Nothing is written where it
 * is refused. Returns the exit status.
 *
 * @param argument the config, `-` or nothing for standard input
 * @param options.force store unknown keys, too
 */
export async function set(
  settings: Settings,
  argument?: string,
  { file, force = false }: { file?: string; force?: boolean } = {},
): Promise<number> {
  const text = (await given(argument ?? (file === undefined ? "-" : undefined), file)).trim();
  await check(text, (lines) => {
    if (!force) throw unknownKeys(lines, "; --force stores it anyway");
    for (const line of lines) console.error(`flanneld: warning: ${line}`);
  });
  using store = await openStore(storeOptions(settings));
  await store.putConfig(text);
  console.log(text);
  return 0;
}

/**
 * Checks a config, the stored one where none is given, and prints it with all defaults filled in.
 * Returns the exit status.
 */
export async function validate(
  settings: Settings,
  argument?: string,
  file?: string,
): Promise<number> {
  const none = argument === undefined && file === undefined;
  const text = none ? await stored(settings) : await given(argument, file);
  const config = await check(text, (lines) => {
    throw unknownKeys(lines);
  });
  const options = await effectiveOptions(config);
  console.log(JSON.stringify(effectiveConfig(config, options), null, 2));
  return 0;
}

/**
 * A config with flannel's keys, defaults filled in.
 *
 * @param options the backend's options in force
 */
export function effectiveConfig(
  config: NetworkConfig,
  options: Record<string, unknown>,
): Record<string, unknown> {
  const names = new Set(Object.keys(options).map((key) => key.toLowerCase()));
  // Options of other backends, which this one ignores, stay as written.
  const others = Object.entries(config.backend.options)
    .filter(([key]) => !names.has(key.toLowerCase()));
  return {
    EnableIPv4: config.ipv4 !== null,
    EnableIPv6: config.ipv6 !== null,
    EnableNFTables: config.enableNFTables,
    ...config.ipv4 ? familyMembers("", config.ipv4) : {},
    ...config.ipv6 ? familyMembers("IPv6", config.ipv6) : {},
    Backend: { Type: config.backend.type, ...options, ...Object.fromEntries(others) },
  };
}

function familyMembers(prefix: string, family: FamilyConfig): Record<string, unknown> {
  return {
    [`${prefix}Network`]: family.network.toString(),
    [`${prefix}SubnetLen`]: family.subnetLength,
    [`${prefix}SubnetMin`]: family.min.address,
    [`${prefix}SubnetMax`]: family.max.address,
  };
}

/**
 * Parses a config and its backend's options; says on standard error what is doubtful.
 *
 * @param unknown is told of keys that flannel does not know, if there are any
 */
async function check(text: string, unknown: (lines: string[]) => void): Promise<NetworkConfig> {
  const config = parseNetworkConfig(text);
  await validateBackendConfig(config);
  const lines = unknownKeyLines(config);
  if (lines.length > 0) unknown(lines);
  for (const warning of config.warnings) console.error(`flanneld: warning: ${warning}`);
  return config;
}

/** Nothing reads them, so that what they were to set is left to its default. */
function unknownKeys(lines: string[], more = ""): ConfigError {
  return new ConfigError(`the network config is rejected: ${lines.join("; ")}${more}`);
}

async function stored(settings: Settings): Promise<string> {
  using store = await openStore(storeOptions(settings));
  const text = await store.config();
  if (text === undefined) {
    throw new Error(
      `no network config in etcd under ${store.configKey}: write one with 'flanneld config set'`,
    );
  }
  return text;
}

/** What is meant for a file's name, and is not JSON. */
const PATH = /^(?:(?:~|\.{1,2})?\/(?!\/)[^\s{}"]+|[^\s{}"]+\.json)$/;

/** The config that the arguments name. */
async function given(argument?: string, file?: string): Promise<string> {
  if (argument !== undefined && file !== undefined) {
    throw new UsageError("a config as argument and --file are mutually exclusive");
  }
  if (file !== undefined) return readTextFile(file);
  if (argument !== undefined && PATH.test(argument)) {
    throw new UsageError(
      `${JSON.stringify(argument)} is a path: use --file=${argument}`,
    );
  }
  return argument === "-" ? await new Response(Deno.stdin.readable).text() : argument ?? "";
}
