/**
 * `flanneld completions`: what a shell offers after `flanneld`, from the tree of commands.
 *
 * @module
 */
import type { Command } from "commander";
import { bash } from "./bash.ts";
import { fish } from "./fish.ts";
import { zsh } from "./zsh.ts";

const SHELLS: Record<string, (program: Command) => string> = { bash, zsh, fish };

/** Names of the shells. */
export const SHELL_NAMES = Object.keys(SHELLS);

/** The completions for one of {@linkcode SHELL_NAMES}. */
export function completionsText(shell: string, program: Command): string {
  return SHELLS[shell](program);
}

/** Prints them. Returns the exit status. */
export function completions(shell: string, program: Command): number {
  Deno.stdout.writeSync(new TextEncoder().encode(completionsText(shell, program)));
  return 0;
}
