/**
 * Completions for zsh.
 *
 * @module
 */
import type { Command, Option } from "commander";
import { forms, type Place, places, type Value, valueOf } from "./places.ts";

/** The script, which may be sourced or be a file `_flanneld` in a folder of `fpath`. */
export function zsh(program: Command): string {
  const all = places(program);
  const known = new Set(all.map(({ words }) => words));
  return `#compdef flanneld
${all.map((place) => functionOf(place, known)).join("\n")}
if [[ $funcstack[1] == _flanneld ]]; then _flanneld "$@"; else compdef _flanneld flanneld; fi
`;
}

/** The function that completes one place, and hands over to those below it. */
function functionOf({ words, commands, options, choices }: Place, known: Set<string>): string {
  const specs = options.flatMap(specsOf);
  specs.push("'(- *)'{-h,--help}'[Print this help and exit.]'");
  if (choices.length > 0) specs.push(`'1:value:(${choices.join(" ")})'`);
  // One dash serves as well as two, but only that form is offered which has been begun.
  const forms = "local one='!' two=''; [[ $PREFIX == -[^-]* ]] && one='' two='!'";
  const name = functionName(words);
  if (commands.length === 0) return `${name}() {\n  ${forms}\n  _arguments ${join(specs)}\n}`;
  const subs = commands.map((command) =>
    quote(`${command.name()}:${describe(command.description())}`)
  );
  const next = commands.map((command) => `${words} ${command.name()}`.trim())
    .filter((place) => known.has(place));
  return `${name}() {
  local line state
  ${forms}
  _arguments -C ${join([...specs, "'1:command:->command'", "'*::argument:->argument'"])}
  case $state in
    command) local -a commands=(${subs.join(" ")}); _describe command commands ;;
    argument) case $line[1] in
${next.map((place) => `      ${place.split(" ").at(-1)}) ${functionName(place)} ;;`).join("\n")}
    esac ;;
  esac
}`;
}

function join(specs: string[]): string {
  return specs.join(" \\\n    ");
}

function specsOf(option: Option): string[] {
  const rest = `[${describe(option.description)}]${actionOf(valueOf(option))}`;
  const value = valueOf(option).kind === "boolean" ? "=-" : "=";
  const repeats = isRepeatable(option) ? "*" : "";
  return forms(option).flatMap((form) => {
    if (!form.startsWith("--")) {
      return [quote(`${repeats}${form}${option.isBoolean() ? rest.split("]::")[0] + "]" : rest}`)];
    }
    const spec = (dashed: string) => quote(`${repeats}${dashed}${value}${rest}`);
    // `--v` is `-v` with one dash.
    const short = form.slice(1);
    return forms(option).includes(short)
      ? [`"$two"${spec(form)}`]
      : [`"$two"${spec(form)}`, `"$one"${spec(short)}`];
  });
}

/** Lists are given several times. */
function isRepeatable(option: Option): boolean {
  return option.parseArg !== undefined;
}

function actionOf(value: Value): string {
  switch (value.kind) {
    case "boolean":
      return `::value:(${value.words.join(" ")})`;
    case "choice":
      return `:value:(${value.words.join(" ")})`;
    case "file":
      return ":file:_files";
    case "interface":
      return ":interface:_net_interfaces";
    case "text":
      return ":value: ";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function describe(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, "\\$&");
}

function functionName(words: string): string {
  return ["_flanneld", ...words.split(" ").filter(Boolean)].join("_").replaceAll("-", "_");
}
