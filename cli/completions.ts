/**
 * `flanneld completions`: what a shell offers behind `flanneld`, from the tree of commands.
 *
 * @module
 */
import type { Command, Option } from "commander";
import { flagOf, isFlagName } from "./flags.ts";

const SHELLS: Record<string, (program: Command) => string> = { bash, zsh, fish };

/** Names of the shells. */
export const SHELL_NAMES = Object.keys(SHELLS);

/** Prints the completions for one of {@linkcode SHELL_NAMES}. Returns the exit status. */
export function completions(shell: string, program: Command): number {
  Deno.stdout.writeSync(new TextEncoder().encode(SHELLS[shell](program)));
  return 0;
}

/** A place in the command line: what can follow there. */
interface Place {
  /** Words that lead to it: `config get`; empty for the root. */
  words: string;
  commands: Command[];
  options: Option[];
  /** Words that an argument may be. */
  choices: string[];
}

function places(command: Command, words: string[] = []): Place[] {
  const own = {
    words: words.join(" "),
    commands: [...command.commands],
    options: [...command.options],
    choices: command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
  };
  return [own, ...command.commands.flatMap((sub) => places(sub, [...words, sub.name()]))];
}

/** The forms of an option with their dashes. */
function forms(option: Option): string[] {
  return [option.short, option.long].filter((form): form is string => !!form);
}

function takesFile(option: Option): boolean {
  const name = option.name();
  return isFlagName(name) ? flagOf(name).file === true : option.flags.includes("<file>");
}

function fileForms(all: Place[]): string[] {
  return [...new Set(all.flatMap(({ options }) => options.filter(takesFile).flatMap(forms)))];
}

function valueForms(all: Place[]): string[] {
  return [
    ...new Set(
      all.flatMap(({ options }) =>
        options.filter((option) => option.required && !takesFile(option)).flatMap(forms)
      ),
    ),
  ];
}

function bash(program: Command): string {
  const all = places(program);
  const cases = all.map(({ words, commands, options, choices }) => {
    const names = commands.map((command) => command.name());
    const offered = [...names, ...choices, ...options.flatMap(forms)];
    return `    "${words}") words="${offered.join(" ")} --help" ;;`;
  });
  // The words that are no flags, as far as they name commands, are the place.
  return `_flanneld() {
  local cur=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} place="" words="" word
  case $previous in
    ${fileForms(all).join("|")}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    ${valueForms(all).join("|")}) return ;;
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$place $word" in
${
    all.slice(1).map(({ words }) => {
      const [, before, last] = /^(?:(.*) )?(\S+)$/.exec(words) ?? [];
      return `      "${before ?? ""} ${last}") place="${words}" ;;`;
    }).join("\n")
  }
    esac
  done
  case $place in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _flanneld flanneld
`;
}

function zsh(program: Command): string {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const describe = (text: string) => text.replaceAll(/[[\]:]/g, "\\$&");
  const functions = places(program).map(({ words, commands, options, choices }) => {
    const specs = options.flatMap((option) =>
      forms(option).map((form) => {
        const action = takesFile(option) ? ":file:_files" : option.required ? ":value:" : "";
        return quote(`${form}[${describe(option.description)}]${action}`);
      })
    );
    if (choices.length > 0) specs.push(`'1:value:(${choices.join(" ")})'`);
    const name = functionName(words);
    if (commands.length === 0) return `${name}() {\n  _arguments ${specs.join(" \\\n    ")}\n}`;
    const subs = commands.map((command) =>
      quote(`${command.name()}:${describe(command.description())}`)
    );
    return `${name}() {
  local line state
  _arguments -C ${[...specs, "'1:command:->command'", "'*::argument:->argument'"].join(" \\\n    ")}
  case $state in
    command) local -a commands=(${subs.join(" ")}); _describe command commands ;;
    argument) case $line[1] in
${
      commands.map((command) =>
        `      ${command.name()}) ${functionName(`${words} ${command.name()}`.trim())} ;;`
      ).join("\n")
    }
    esac ;;
  esac
}`;
  });
  return `#compdef flanneld\n${functions.join("\n")}\ncompdef _flanneld flanneld\n`;
}

function functionName(words: string): string {
  return ["_flanneld", ...words.split(" ").filter(Boolean)].join("_").replaceAll("-", "_");
}

function fish(program: Command): string {
  const quote = (text: string) => `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
  const lines = places(program).flatMap(({ words, commands, options, choices }) => {
    const path = words.split(" ").filter(Boolean);
    const names = commands.map((command) => command.name()).join(" ");
    const conditions = path.map((word) => `__fish_seen_subcommand_from ${word}`);
    if (names) conditions.push(`not __fish_seen_subcommand_from ${names}`);
    const where = conditions.length > 0 ? ` -n ${quote(conditions.join("; and "))}` : "";
    return [
      ...commands.map((command) =>
        `complete -c flanneld -f${where} -a ${command.name()} -d ${quote(command.description())}`
      ),
      ...choices.map((choice) => `complete -c flanneld -f${where} -a ${choice}`),
      ...options.map((option) => {
        const short = option.short ? ` -s ${option.short.slice(1)}` : "";
        const long = option.long ? ` -l ${option.long.slice(2)}` : "";
        const value = takesFile(option) ? " -r -F" : option.required ? " -x" : "";
        return `complete -c flanneld${where}${short}${long}${value} -d ${
          quote(option.description)
        }`;
      }),
    ];
  });
  return `complete -c flanneld -f\n${lines.join("\n")}\n`;
}
