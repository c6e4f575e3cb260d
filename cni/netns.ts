/**
 * Whether a path can be a network namespace's: a pipe, for one, would keep whoever opens it waiting.
 *
 * @module
 */

/** A process's; the runtime lets a program with narrowed permissions look at nothing in `/proc`. */
const OF_PROCESS = /^\/proc\/(?:self|thread-self|\d+(?:\/task\/\d+)?)\/ns\/net$/;

/**
 * What is wrong with a network namespace's path; undefined where nothing is. Whether a regular file
 * is a namespace is for whoever opens it to say.
 */
export function netnsProblem(path: string): string | undefined {
  if (OF_PROCESS.test(path)) return undefined;
  try {
    const { isFile, size } = Deno.statSync(path);
    return isFile && size === 0 ? undefined : "is not a network namespace";
  } catch (error) {
    const isMissing = error instanceof Deno.errors.NotFound;
    return isMissing ? "does not exist" : "is not a network namespace";
  }
}
