/**
 * What is wrong with the words of a command line, in this program's words rather than commander's.
 *
 * @module
 */
import type { Command, CommanderError } from "commander";
import { UsageError } from "../agent/errors.ts";
import { nearest } from "../base/nearest.ts";

/** Says what commander found wrong with the arguments of `command`. */
export function usageError(error: CommanderError, command: Command): UsageError {
  return new UsageError(reason(error, command));
}

function reason({ code, message }: CommanderError, command: Command): string {
  const name = nameOf(command);
  switch (code) {
    case "commander.help":
      return `${name} needs one of: ${namesBelow(command).join(", ")}`;
    case "commander.unknownOption":
      return unknownFlag(/'([^'=]*)/.exec(message)?.[1] ?? "", command);
    case "commander.optionMissingArgument":
      return `${lastForm(/'([^']*)'/.exec(message)?.[1] ?? "")} needs a value`;
    case "commander.missingArgument": {
      const missing = command.registeredArguments.find(({ required }) => required);
      const choices = missing?.argChoices ?? [];
      return choices.length > 0
        ? `${name} needs one of: ${choices.join(", ")}`
        : `${name} needs ${missing?.name().toUpperCase()}`;
    }
    case "commander.unknownCommand":
      return unknownWord(/'([^']*)'/.exec(message)?.[1] ?? "", command);
    case "commander.excessArguments":
      return command.commands.length > 0
        ? unknownWord(command.args[0], command)
        : unexpectedArgument(command);
    case "commander.invalidArgument":
      return invalidArgument(message, command);
    default:
      return message.replace(/^error: /, "");
  }
}

/** An unknown command below `parent`, the root or one that has commands. */
export function unknownCommand(word: string, parent: Command): UsageError {
  return new UsageError(unknownWord(word, parent));
}

function unknownWord(word: string, parent: Command): string {
  const before = nameOf(parent);
  const full = (name: string) => `${before} ${name}`.trim();
  const names = namesBelow(parent);
  const similar = nearest(word, names);
  return `unknown command ${JSON.stringify(full(word))}; ` +
    (similar ? `did you mean ${full(similar)}?` : `commands are ${names.map(full).join(", ")}`);
}

/** Commander knows no words behind one dash, and would repeat a value, perhaps a password. */
function unknownFlag(flag: string, command: Command): string {
  const names = command.options.map((option) => option.name());
  const similar = nearest(flag.replace(/^--?/, ""), names);
  const advice = similar ? `did you mean --${similar}?` : `see flanneld help ${nameOf(command)}`;
  return `unknown flag ${flag}; ${advice}`;
}

function unexpectedArgument(command: Command): string {
  const names = command.registeredArguments.map((argument) => argument.name().toUpperCase());
  const taken = names.length === 0 ? "no argument" : `${names.join(" and ")} alone`;
  const extra = JSON.stringify(command.args[names.length] ?? "");
  return `unexpected argument ${extra}: ${nameOf(command)} takes ${taken}`;
}

function invalidArgument(message: string, command: Command): string {
  const [, value, name] = /value '(.*)' is invalid for argument '([^']*)'/s.exec(message) ?? [];
  const argument = command.registeredArguments.find((one) => one.name() === name);
  const choices = argument?.argChoices ?? [];
  const similar = nearest(value ?? "", choices);
  const advice = similar ? `did you mean ${similar}?` : `use one of: ${choices.join(", ")}`;
  return `unknown ${name} ${JSON.stringify(value)}; ${advice}`;
}

/** `--file` of `-f, --file <file>`. */
function lastForm(flags: string): string {
  return flags.split(/[ ,]+/).findLast((part) => part.startsWith("-")) ?? flags;
}

function namesBelow(command: Command): string[] {
  return command.commands.map((one) => one.name());
}

/** `config set`; empty for the root. */
export function nameOf(command: Command): string {
  const { parent } = command;
  return parent ? `${nameOf(parent)} ${command.name()}`.trim() : "";
}
