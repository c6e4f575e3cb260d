/**
 * Completions for fish.
 *
 * @module
 */
import type { Command, Option } from "commander";
import { places, type Value, valueOf } from "./places.ts";

/** The script. */
export function fish(program: Command): string {
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
      ...options.map((option) => `complete -c flanneld${where}${formsOf(option)}`),
    ];
  });
  return `complete -c flanneld -f
complete -c flanneld -s h -l help -d 'Print this help and exit.'
${lines.join("\n")}
`;
}

/** An option's forms, one dash being as good as two, its values and its description. */
function formsOf(option: Option): string {
  const short = option.short ? ` -s ${option.short.slice(1)}` : "";
  const name = option.long?.slice(2);
  const long = name === undefined ? "" : ` -l ${name}${name.length > 1 ? ` -o ${name}` : ""}`;
  return `${short}${long}${actionOf(valueOf(option))} -d ${quote(option.description)}`;
}

function actionOf(value: Value): string {
  switch (value.kind) {
    case "boolean":
      return "";
    case "choice":
      return ` -x -a ${quote(value.words.join(" "))}`;
    case "file":
      return " -r -F";
    case "interface":
      return " -x -a '(__fish_print_interfaces)'";
    case "text":
      return " -x";
  }
}

function quote(text: string): string {
  return `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
}
