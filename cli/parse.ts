/**
 * Parsing of flags, by the rules of Go's `flag` package, and of their environment variables.
 *
 * @module
 */
import { UsageError } from "../agent/errors.ts";
import { nearest } from "../subnet/nearest.ts";
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
  /** The first argument that is no flag, and all behind it. */
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
 * boolean takes one only after `=`. Parsing ends before the first argument that is no flag, or
 * behind `--`.
 *
 * @throws {UsageError} for an unknown flag or one without its value
 */
export function parseFlags(args: readonly string[]): ParsedArguments {
  const given: GivenFlags = new Map();
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
    if (name === "help" || name === "h") {
      help = true;
      continue;
    }
    if (!isFlagName(name)) throw unknownFlag(arg.split("=", 1)[0], name);
    given.set(name, [...given.get(name) ?? [], value ?? separateValue(name)]);
  }
  return { given, help, rest: args.slice(index) };

  function separateValue(name: FlagName): string {
    if (FLAGS[name].type === "bool") return "true";
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
    throw new UsageError(`${origin}: this version has no ${flag.missing}; leave it unset`);
  }
  return value;
}

function parseScalar(
  type: keyof FlagTypes,
  text: string,
  origin: string,
): FlagTypes["string" | "int" | "bool"] {
  if (type === "bool") {
    // The words that Go's strconv.ParseBool takes.
    if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true;
    if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false;
    throw badValue(text, origin, "not a boolean (true or false)");
  }
  if (type === "int") {
    if (/^[+-]?(0|[1-9]\d{0,14})$/.test(text)) return Number(text);
    throw badValue(text, origin, "not a whole number");
  }
  return text;
}

function badValue(value: string, origin: string, reason: string): UsageError {
  // A password in a URL must not end in a log.
  const shown = JSON.stringify(value.replace(/\/\/[^/@]*@/g, "//***@"));
  return new UsageError(`invalid value ${shown} for ${origin}: ${reason}`);
}

function unknownFlag(text: string, name: string): UsageError {
  const similar = nearest(name, FLAG_NAMES);
  return new UsageError(
    `unknown flag ${text}${similar ? `; did you mean --${similar}?` : "; see --help"}`,
  );
}
