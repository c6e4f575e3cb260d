/**
 * What the launcher of the packed binary says: where the program's own files are, and what its
 * caller's environment had.
 *
 * @module
 */

/** What the launcher of the packed binary says, for this process only: not for its children. */
const LAUNCHER_LIBRARY = take("_FLANNELD_LIB");
const LAUNCHER_LICENCES = take("_FLANNELD_LICENCES");
/** Flags whose values were arguments until the launcher took them out. */
export const SECRET_ARGUMENTS = take("_FLANNELD_SECRETS")?.split(",") ?? [];
if (LAUNCHER_LIBRARY) {
  for (const name of ["_FLANNELD_ARGV0", "DENO_DIR", "DENO_NO_UPDATE_CHECK", "MALLOC_ARENA_MAX"]) {
    take(name);
  }
}

/** Before the names of variables that are for programs which this one starts. */
const CALLERS = "_FLANNELD_CALLER_";

/**
 * The caller's variables that this process has not under their own names, lest they change how it
 * runs: for the programs that it starts, which inherit all others. To be called once.
 */
export function takeCallersVariables(): Record<string, string> {
  const taken: Record<string, string> = {};
  if (!LAUNCHER_LIBRARY) return taken;
  for (const [name, value] of Object.entries(Deno.env.toObject())) {
    if (!name.startsWith(CALLERS)) continue;
    taken[name.slice(CALLERS.length)] = value;
    Deno.env.delete(name);
  }
  return taken;
}

function take(name: string): string | undefined {
  const value = Deno.env.get(name);
  if (value !== undefined) Deno.env.delete(name);
  return value;
}

/**
 * The data plane's library: where the launcher of the packed binary says, inside a compiled binary
 * or a checkout the build folder beside the sources.
 */
export function libraryPath(): string {
  return LAUNCHER_LIBRARY ||
    `${import.meta.dirname}/../dataplane-rs/target/release/libdataplane.so`;
}

/** The licences' texts, beside the program's modules. */
export function licencesPath(): string {
  return LAUNCHER_LICENCES || `${import.meta.dirname}/licences.txt`;
}
