/**
 * Where the program's own files are.
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
