/**
 * One agent a node.
 *
 * The lock is a listening abstract Unix socket (unix(7)): it lives in the network namespace, which
 * is what two agents would fight over, and is gone with its process however that ends. A lock file
 * would be neither: containers on the host's network have a /run of their own.
 *
 * @module
 */

const LOCK = "\0flanneld/lock";

/** Held until disposed. */
export interface Lock extends Disposable {
  readonly path: string;
}

/**
 * Takes the node's lock, or answers undefined when another agent has it.
 */
export function acquireLock(): Lock | undefined {
  try {
    const listener = Deno.listen({ transport: "unix", path: LOCK });
    return { path: LOCK, [Symbol.dispose]: () => listener.close() };
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return undefined;
    throw error;
  }
}

/** Whether an agent has the lock, without taking it, which would keep one from starting meanwhile. */
export async function isLocked(): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path: LOCK })).close();
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.ConnectionRefused);
  }
}
