/**
 * How the plugin was called: the environment variables of the CNI specification.
 *
 * @module
 */
import { CniError, CODES } from "./errors.ts";

/** The commands of the specification. */
export const COMMANDS = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] as const;

/** One of them. */
export type CniCommand = (typeof COMMANDS)[number];

/** A call of the plugin. */
export interface Invocation {
  command: CniCommand;
  /** Empty where the command is for a network and not for a container, and so are the next two. */
  containerId: string;
  /** Path of the container's network namespace; empty where it is gone (DEL). */
  netns: string;
  ifname: string;
  /** Folders with plugins, in order. */
  path: string[];
  /** Of the caller's environment, for other plugins, besides those that they inherit. */
  variables: Record<string, string>;
  /** Further arguments: `IgnoreUnknown=1;K8S_POD_NAME=x`. */
  args: string;
}

/** Variables that a command needs. */
const REQUIRED: Record<CniCommand, string[]> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  GC: [],
  STATUS: [],
  VERSION: [],
};

/** What container ids and network names may be (SPEC.md, "Parameters"). */
export const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** Characters of a container's id: it begins the name of a file, before a colon and the device's. */
const ID_LENGTH = 255 - 1 - 15;

/** Bytes of a device's name (IFNAMSIZ less its NUL). */
const NAME_LENGTH = 15;

/**
 * Reads the call from the environment.
 *
 * @throws {CniError} code 4, with the names of the variables that are wrong
 */
export function parseInvocation(
  env: (name: string) => string | undefined,
): Omit<Invocation, "variables"> {
  const value = (name: string) => env(name) ?? "";
  const command = COMMANDS.find((known) => known === value("CNI_COMMAND"));
  if (command === undefined) {
    throw wrong(`CNI_COMMAND ${JSON.stringify(value("CNI_COMMAND"))} is not known`);
  }
  const missing = REQUIRED[command].filter((name) => value(name) === "");
  if (missing.length > 0) throw wrong(`${command} needs ${missing.join(", ")}`);
  const invocation = {
    command,
    containerId: value("CNI_CONTAINERID"),
    netns: value("CNI_NETNS"),
    ifname: value("CNI_IFNAME"),
    path: value("CNI_PATH").split(":").filter((folder) => folder !== ""),
    args: value("CNI_ARGS"),
  };
  if (REQUIRED[command].length > 0) requireNames(invocation);
  return invocation;
}

function requireNames({ containerId, ifname }: Pick<Invocation, "containerId" | "ifname">): void {
  if (!IDENTIFIER.test(containerId)) {
    throw wrong(
      `CNI_CONTAINERID ${
        JSON.stringify(containerId)
      } is not a letter or digit followed by letters, ` +
        "digits, _, . or -",
    );
  }
  if (containerId.length > ID_LENGTH) {
    throw wrong(`CNI_CONTAINERID has ${containerId.length} characters, more than ${ID_LENGTH}`);
  }
  if (!isDeviceName(ifname)) {
    throw wrong(
      `CNI_IFNAME ${
        JSON.stringify(ifname)
      } is not a device name (1 to 15 bytes, no space, /, : or %)`,
    );
  }
}

/** Whether the kernel takes a name for a device, and takes it as it is: it fills in `%d`. */
export function isDeviceName(name: string): boolean {
  const bytes = new TextEncoder().encode(name).length;
  return bytes > 0 && bytes <= NAME_LENGTH && !/[/:%\s\p{Cc}]/u.test(name) &&
    !/^\.{1,2}$/.test(name);
}

function wrong(message: string): CniError {
  return new CniError(CODES.invalidEnvironment, message);
}
