/**
 * Calls of the native library that run on other threads.
 *
 * @module
 */

/** Keeps a library loaded until it is no longer needed and its last call has returned. */
export class PendingCalls {
  readonly #unload: () => void;
  #count = 0;
  #ended = false;

  /** @param unload closes the library */
  constructor(unload: () => void) {
    this.#unload = unload;
  }

  /** Waits for a call and for what is done with its answer. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    this.#count++;
    try {
      return await call();
    } finally {
      this.#count--;
      this.#unloadWhenIdle();
    }
  }

  /** No further calls are made: unloads the library now, or after the last one. */
  end(): void {
    this.#ended = true;
    this.#unloadWhenIdle();
  }

  #unloadWhenIdle(): void {
    if (this.#ended && this.#count === 0) this.#unload();
  }
}
