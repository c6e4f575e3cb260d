/**
 * `flanneld licences`: the licences of what the binary is made of.
 *
 * @module
 */
import { licencesPath } from "./paths.ts";

/**
 * Prints them. Returns the exit status.
 *
 * @throws Error where this is not a built program
 */
export async function licences(): Promise<number> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(licencesPath());
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error("only the built program contains the texts: see docs/licences.md");
  }
  await file.readable.pipeTo(Deno.stdout.writable);
  return 0;
}
