/**
 * Whether a path can be a network namespace's: a pipe, for one, would keep whoever opens it waiting.
 *
 * @module
 */

/** A process's; the runtime lets a program with narrowed permissions look at nothing in `/proc`. */
const OF_PROCESS = /^\/proc\/(?:self|thread-self|\d+(?:\/task\/\d+)?)\/ns\/net$/;

/** Whether something is at the path that is not a network namespace. */
export function isNotNetns(path: string): boolean {
  if (OF_PROCESS.test(path) || OF_PROCESS.test(linkTarget(path))) return false;
  try {
    return isOtherFile(path);
  } catch (error) {
    // What is missing keeps no one waiting.
    return !(error instanceof Deno.errors.NotFound);
  }
}

/**
 * Whether something cannot be a namespace: that is an empty file of a file system of its own, mounted
 * over a file. Without the mount, what stays is an empty file of the folder's.
 */
function isOtherFile(path: string): boolean {
  const { isFile, size, dev } = Deno.statSync(path);
  if (!isFile || size !== 0) return true;
  const real = Deno.realPathSync(path);
  return dev === Deno.statSync(real.slice(0, real.lastIndexOf("/")) || "/").dev;
}

/** Empty where the path is not a link. */
function linkTarget(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return "";
  }
}
