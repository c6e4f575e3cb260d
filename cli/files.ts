/**
 * Files that a flag or an argument names: read and written with errors that name the file and say why
 * in plain words, without the runtime's system calls.
 *
 * @module
 */

/** What is done to a file, as messages name it. */
type Access = "read" | "write";

/**
 * Reads a text file.
 *
 * @throws {Error} `cannot read PATH: no such file`
 */
export function readTextFile(path: string): string {
  return withFile("read", path, () => Deno.readTextFileSync(path));
}

/**
 * Does something with a file; its errors name the file and the reason.
 *
 * @throws {Error} as {@linkcode readTextFile}; {@linkcode Deno.errors.NotCapable} as it is, which is
 * this program's own restriction
 */
export function withFile<T>(access: Access, path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    // The agent's own reasons begin with the path.
    const reason = fileFault(error, access).replace(`${path} is `, () => "it is ");
    throw new Error(`cannot ${access} ${path}: ${reason}`);
  }
}

/** Why a file could not be opened, read or written. */
export function fileFault(error: unknown, access: Access = "read"): string {
  if (error instanceof Deno.errors.NotFound) {
    return access === "write" ? "no such folder" : "no such file";
  }
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  if (error instanceof Deno.errors.IsADirectory) return "a directory, not a file";
  if (error instanceof Deno.errors.NotADirectory) return "a part of the path is not a directory";
  if (error instanceof Deno.errors.FilesystemLoop) return "its symbolic links form a loop";
  const message = error instanceof Error ? error.message : String(error);
  // `File name too long (os error 36): open '/…'`
  const [, reason] = /^(.+) \(os error \d+\)/.exec(message) ?? [];
  return reason === undefined ? message : reason[0].toLowerCase() + reason.slice(1);
}
