/**
 * `flanneld man`: the manual page, in troff's man macros (man(7)), from the tree of commands.
 *
 * @module
 */
import type { Command, Option } from "commander";
import { VERSION } from "../agent/version.ts";
import { GROUPS } from "./flags.ts";
import { BACKENDS, CONFIG, FILES, type Section, SIGNALS, STATUS } from "./man_sections.ts";

/** Prints the page. Returns the exit status. */
export function man(program: Command): number {
  Deno.stdout.writeSync(new TextEncoder().encode(page(program)));
  return 0;
}

/** The page's source. */
export function page(program: Command): string {
  return [
    `.TH FLANNELD 8 "" "flanneld ${VERSION}" "System Administration"`,
    ".SH NAME",
    "flanneld \\- overlay network agent for containers",
    ".SH SYNOPSIS",
    ".B flanneld\n.RI [ flags ]",
    ".br\n.B flanneld\n.I COMMAND\n.RI [ flags ]",
    ".SH DESCRIPTION",
    escape(program.description()),
    "Without a command, runs the agent until SIGTERM or SIGINT. Forwarding stays in place when it " +
    "stops.",
    ".SH FLAGS",
    "One dash or two, the value after = or as the next argument; booleans take theirs after = " +
    "only. A flag wins over its environment variable.",
    ...GROUPS.flatMap((group) => [
      `.SS ${group}`,
      ...program.options.filter((option) => option.helpGroupHeading === `${group}:`).map(entry),
    ]),
    ".SH COMMANDS",
    ...program.commands.flatMap((command) => commandEntries(command, [])),
    ...[CONFIG, BACKENDS, SIGNALS, STATUS, FILES].map(section),
  ].join("\n") + "\n";
}

function section({ title, text, entries }: Section): string {
  const lines = entries.map(([term, text]) => `.TP\n.B ${escape(term)}\n${escape(text)}`);
  return [`.SH ${title}`, ...text === undefined ? [] : [escape(text)], ...lines].join("\n");
}

function commandEntries(command: Command, parents: string[]): string[] {
  const words = [...parents, command.name()];
  const below = command.commands.flatMap((sub) => commandEntries(sub, words));
  // One without flags of its own only leads to others.
  if (below.length > 0 && command.options.length === 0) return below;
  const args = command.registeredArguments.map((argument) =>
    argument.required ? argument.name() : `[${argument.name()}]`
  );
  const own = command.options.filter((option) => option.helpGroupHeading === undefined);
  const flags = command.options.filter((option) => option.helpGroupHeading !== undefined);
  return [
    `.SS "${[...words, ...args].join(" ")}"`,
    escape(command.description()),
    ...own.map(entry),
    ...flags.length === 0
      ? []
      : [`.PP\nFlags as above: ${flags.map((option) => escape(`--${option.name()}`)).join(", ")}.`],
    ...below,
  ];
}

function entry(option: Option): string {
  const texts = [option.description];
  if (option.defaultValue !== undefined) texts.push(`Default: ${option.defaultValue}.`);
  if (option.envVar) texts.push(`Environment: ${option.envVar}.`);
  return `.TP\n.B ${escape(option.flags)}\n${escape(texts.join(" "))}`;
}

/** Backslashes and dashes mean something to troff, as do a dot or a quote that begins a line. */
function escape(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^(['.])/gm, "\\&$1");
}
