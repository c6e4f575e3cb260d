/**
 * Parsing of flags, by the rules of Go's `flag` package, and of their environment variables.
 *
 * @module
 */
import { UsageError } from "../agent/errors.ts";
import { loggerFlag } from "./logger_flags.ts";
import { nearest } from "../base/nearest.ts";
import {
  envName,
  FLAG_NAMES,
  type FlagName,
  flagOf,
  FLAGS,
  type FlagTypes,
  type FlagValues,
  isFlagName,
} from "./flags.ts";

/** Flags as given on the command line: the raw texts of each, in order. */
export type GivenFlags = Map<FlagName, string[]>;

/** What {@linkcode parseFlags} found. */
export interface ParsedArguments {
  given: GivenFlags;
  /** `-h`, `-help` or `--help` was there. */
  help: boolean;
  /** Names of flags of Go flannel's logger. */
  ignored: string[];
  /** The arguments before `rest` but the ignored ones. */
  leading: string[];
  /** The first argument that is not a flag, and all behind it. */
  rest: string[];
}

/** Values of all flags and where each came from. */
export interface Settings {
  values: FlagValues;
  /** `--public-ip` or `FLANNELD_PUBLIC_IP`; undefined for a flag left at its default. */
  origin(name: FlagName): string | undefined;
}

/**
 * Splits a command line: `-flag` is `--flag`, a value follows after `=` or as the next argument, a
 * boolean takes one only after `=`. Parsing ends before the first argument that is not a flag, or
 * behind `--`.
 *
 * @throws {UsageError} for an unknown flag or one without its value
 */
export function parseFlags(args: readonly string[]): ParsedArguments {
  const given: GivenFlags = new Map();
  const ignored: string[] = [];
  const leading: string[] = [];
  let help = false;
  let index = 0;
  for (; index < args.length; index++) {
    const arg = args[index];
    if (arg === "--") {
      index++;
      break;
    }
    const [, name, value] = /^--?([^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
    if (name === undefined || arg === "-") break;
    const from = index;
    const logger = loggerFlag(name);
    if (name === "help" || name === "h") {
      help = true;
    } else if (logger !== undefined) {
      ignored.push(name);
      if (value === undefined) separateValue(name, logger);
      continue;
    } else if (isFlagName(name)) {
      const text = value ?? separateValue(name, FLAGS[name].type);
      given.set(name, [...given.get(name) ?? [], text]);
    } else {
      throw unknownFlag(arg.split("=", 1)[0], name);
    }
    leading.push(...args.slice(from, index + 1));
  }
  return { given, help, ignored, leading, rest: args.slice(index) };

  function separateValue(name: string, type: keyof FlagTypes): string {
    if (type === "bool") return "true";
    if (++index >= args.length) throw new UsageError(`--${name} needs a value`);
    return args[index];
  }
}

/**
 * Parses and checks the values of flags and environment. A flag wins over the environment, an empty
 * variable counts as unset, and a list from the environment has one entry.
 *
 * @param names the flags that the command knows; the others stay at their defaults
 * @throws {UsageError} naming the flag or variable, the value and the reason
 */
export function resolveFlags(
  given: GivenFlags,
  env: (name: string) => string | undefined,
  names: readonly FlagName[] = FLAG_NAMES,
): Settings {
  const values: Record<string, FlagTypes[keyof FlagTypes]> = {};
  for (const name of FLAG_NAMES) values[name] = flagOf(name).default;
  const origins = new Map<FlagName, string>();
  for (const name of names) {
    const variable = flagOf(name).noEnv ? "" : env(envName(name));
    const raw = given.get(name) ?? (variable ? [variable] : undefined);
    if (!raw) continue;
    const origin = given.has(name) ? `--${name}` : envName(name);
    origins.set(name, origin);
    values[name] = parseValue(name, raw, origin);
  }
  return { values: values as FlagValues, origin: (name) => origins.get(name) };
}

function parseValue(name: FlagName, raw: string[], origin: string): FlagTypes[keyof FlagTypes] {
  const flag = flagOf(name);
  const last = raw[raw.length - 1];
  const value = flag.type === "list" ? raw : parseScalar(flag.type, last, origin);
  const reason = value === "" ? undefined : flag.check?.(value);
  if (reason) throw badValue(raw.join(","), origin, reason);
  if (flag.missing && value !== flag.default) {
    throw new UsageError(`${origin}: this version has no ${flag.missing}; do not set it`);
  }
  return value;
}

function parseScalar(
  type: keyof FlagTypes,
  text: string,
  origin: string,
): FlagTypes["string" | "int" | "bool"] {
  if (type === "bool") {
    const value = parseBoolean(text);
    if (value !== undefined) return value;
    throw badValue(text, origin, "not a boolean (true or false)");
  }
  if (type === "int") {
    if (/^[+-]?(0|[1-9]\d{0,14})$/.test(text)) return Number(text);
    throw badValue(text, origin, "not a whole number");
  }
  return text;
}

/** A boolean in the words that Go's strconv.ParseBool takes; undefined for any other word. */
export function parseBoolean(text: string): boolean | undefined {
  if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true;
  if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false;
  return undefined;
}

/**
 * What to say of a word behind a boolean flag that was meant as its value; undefined where `word` is
 * none, or `flag` has its value.
 */
export function strayBoolean(flag: string, word: string): string | undefined {
  const value = parseBoolean(word.toLowerCase()) ??
    ({ yes: true, on: true, no: false, off: false } as Record<string, boolean>)[word.toLowerCase()];
  if (value === undefined || flag.includes("=")) return undefined;
  const use = value ? `use ${flag} or ${flag}=true` : `use ${flag}=false`;
  return `${flag} takes no value as the next argument, ${JSON.stringify(word)}: ${use}`;
}

function badValue(value: string, origin: string, reason: string): UsageError {
  // A password in a URL must not end in a log.
  const shown = JSON.stringify(value.replace(/^((?:[a-z]+:\/\/)?).*@/is, "$1***@"));
  return new UsageError(`invalid value ${shown} for ${origin}: ${reason}`);
}

function unknownFlag(text: string, name: string): UsageError {
  const similar = nearest(name, FLAG_NAMES);
  return new UsageError(
    `unknown flag ${text}${similar ? `; did you mean --${similar}?` : "; see --help"}`,
  );
}
