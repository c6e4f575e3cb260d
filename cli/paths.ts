/**
 * Where the program's own files are.
 *
 * @module
 */

/** Folder for the lock and the status socket. */
export const RUN_FOLDER = "/run/flannel";

/**
 * The data plane's library: where the launcher of the packed binary says, inside a compiled binary
 * or a checkout the build folder beside the sources.
 */
export function libraryPath(): string {
  return Deno.env.get("_FLANNELD_LIB") ||
    `${import.meta.dirname}/../dataplane-rs/target/release/libdataplane.so`;
}
