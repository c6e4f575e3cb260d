/**
 * Writes lines to a stream that may stop taking them: a pipe whose reader hangs, a terminal that is
 * held. The program must go on all the same.
 *
 * @module
 */

/** Bytes that wait to be written: room for a line about each of some ten thousand leases. */
const MOST = 4 << 20;

/** See the module. */
export class LineWriter {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  readonly #lostLine: (count: number) => string;
  readonly #most: number;
  readonly #encoder = new TextEncoder();
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #lost = 0;
  #writing: Promise<void> | undefined;

  /**
   * @param write writes some of the bytes, without blocking this thread; gives their number
   * @param lostLine says in one line how many lines are missing at its place
   * @param most bytes that wait to be written; further lines are lost
   */
  constructor(
    write: (bytes: Uint8Array) => Promise<number>,
    lostLine: (count: number) => string,
    most = MOST,
  ) {
    this.#most = most;
    this.#write = write;
    this.#lostLine = lostLine;
  }

  /** Adds a line, given without its end. Never waits. */
  add(line: string): void {
    const bytes = this.#encoder.encode(`${line}\n`);
    // Once a line is lost, so are those after it, so that the gap is one and is told in its place.
    if (this.#lost > 0 || this.#bytes + bytes.length > this.#most) this.#lost++;
    else this.#push(bytes);
    this.#writing ??= this.#drain().finally(() => this.#writing = undefined);
  }

  /** Resolves when all is written, or after `limitMs` milliseconds. */
  async flush(limitMs: number): Promise<void> {
    if (this.#writing === undefined) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, limitMs));
    await Promise.race([this.#writing, late]);
    clearTimeout(timer);
  }

  #push(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    this.#bytes += bytes.length;
  }

  async #drain(): Promise<void> {
    // Lines that are added in one go are written by one call.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const bytes = join(this.#waiting.splice(0));
      await this.#writeAll(bytes);
      this.#bytes -= bytes.length;
      if (this.#lost > 0) {
        this.#push(this.#encoder.encode(`${this.#lostLine(this.#lost)}\n`));
        this.#lost = 0;
      }
    }
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    try {
      for (let written = 0; written < bytes.length;) {
        written += await this.#write(bytes.subarray(written));
      }
    } catch {
      // A reader that went away (EPIPE) must not stop the program, and there is nowhere to say so.
    }
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
