/**
 * The table of sub-commands: what help, man page, completions and suggestions are made from.
 *
 * @module
 */

/** Name and summary of each. */
export const COMMANDS = {
  "config": "Read, write or check the network config in etcd.",
  "leases": "List the leases in etcd.",
  "docker-opts": "Write the subnet and MTU as options for the Docker daemon.",
  "cleanup": "Remove the agent's devices, routes and traffic rules from this node.",
  "completions": "Print completions for a shell.",
  "man": "Print the manual page.",
} as const;

/** Name of a sub-command. */
export type CommandName = keyof typeof COMMANDS;

/** All names. */
export const COMMAND_NAMES = Object.keys(COMMANDS) as CommandName[];

/** Whether `name` is a sub-command. */
export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(COMMANDS, name);
}
