/**
 * Warnings about secrets that others on this host could read.
 *
 * @module
 */
import { envName, FLAG_NAMES, type FlagName, flagOf } from "./flags.ts";
import type { Settings } from "./parse.ts";
import { SECRET_ARGUMENTS } from "./paths.ts";

/** Flags that name files with a secret in them. */
const SECRET_FILES = ["etcd-keyfile", "etcd-password-file"] as const satisfies FlagName[];

/**
 * What to warn of, a line each.
 *
 * @param fromArguments flags that the launcher found among the arguments
 */
export function secretWarnings(
  { values, origin }: Settings,
  fromArguments: readonly string[] = SECRET_ARGUMENTS,
): string[] {
  const given = FLAG_NAMES.filter((name) =>
    flagOf(name).secret && (origin(name) === `--${name}` || fromArguments.includes(name))
  );
  return [
    ...given.map((name) =>
      `--${name} was passed as an argument, which every user of this host can read: use the variable ` +
      `${envName(name)} or --${name}-file`
    ),
    ...SECRET_FILES.flatMap((name) => {
      const path = values[name];
      return path && isReadableByAll(path)
        ? [`${origin(name)}: every user of this host can read ${path}: run chmod 600 ${path}`]
        : [];
    }),
  ];
}

function isReadableByAll(path: string): boolean {
  return ((Deno.statSync(path).mode ?? 0) & 0o004) !== 0;
}
