/**
 * The places in a command line, and what can follow there, for any shell.
 *
 * @module
 */
import type { Command, Option } from "commander";
import { flagOf, isFlagName } from "../flags.ts";

/** A place in the command line: what can follow there. */
export interface Place {
  /** Words that lead to it: `config get`; empty for the root. */
  words: string;
  /** Commands, or words that lead to the help of one. */
  commands: Command[];
  options: Option[];
  /** Words that an argument may be. */
  choices: string[];
}

/** All places of the tree, the root first. */
export function places(program: Command): Place[] {
  const help = program.commands.find((command) => command.name() === "help");
  const others = program.commands.filter((command) => command !== help);
  return [...placesBelow(program, []), ...help ? helpPlaces(others, ["help"]) : []];
}

function placesBelow(command: Command, words: string[]): Place[] {
  const own = {
    words: words.join(" "),
    commands: [...command.commands],
    options: [...command.options],
    choices: command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
  };
  const below = command.commands.filter((sub) => words.length > 0 || sub.name() !== "help");
  return [own, ...below.flatMap((sub) => placesBelow(sub, [...words, sub.name()]))];
}

/** `help` is followed by the words of a command. */
function helpPlaces(commands: Command[], words: string[]): Place[] {
  const own = { words: words.join(" "), commands, options: [], choices: [] };
  const below = commands.filter((command) => command.commands.length > 0)
    .flatMap((command) => helpPlaces([...command.commands], [...words, command.name()]));
  return [own, ...below];
}

/** What the value of an option is. */
export type Value =
  | { kind: "file" | "interface" | "text" }
  /** A boolean takes its value after `=` only. */
  | { kind: "boolean"; words: readonly string[] }
  | { kind: "choice"; words: readonly string[] };

/** What to offer for the value of an option. */
export function valueOf(option: Option): Value {
  const name = option.name();
  const flag = isFlagName(name) ? flagOf(name) : undefined;
  if (option.isBoolean()) return { kind: "boolean", words: ["true", "false"] };
  if (flag?.choices) return { kind: "choice", words: flag.choices };
  if (flag?.interface) return { kind: "interface" };
  if (flag?.file ?? option.flags.includes("<file>")) return { kind: "file" };
  return { kind: "text" };
}

/** The forms of an option with their dashes. */
export function forms(option: Option): string[] {
  return [option.short, option.long].filter((form): form is string => !!form);
}
