/**
 * What programs to look at print: steps as they are done, and a view that redraws itself on a terminal.
 *
 * @module
 */

const CLEAR_BELOW = "\x1b[J";

/** Standard output of the program. */
export class Output {
  readonly terminal: boolean = Deno.stdout.isTerminal();
  /** Lines of the view that stand on the terminal. */
  #drawn = 0;

  /** @param closed called when nobody reads any more, as behind `| head` */
  constructor(readonly closed: () => void) {}

  /** Prints lines; they stay. */
  line(...lines: string[]): void {
    this.#drawn = 0;
    this.#write(lines.map((line) => `${line}\n`).join(""));
  }

  /** A step that is done. */
  done(text: string): void {
    this.line(`${this.#paint("32", "ok")}    ${text}`);
  }

  /** A step that failed. */
  failed(text: string): void {
    this.line(`${this.#paint("31", "FAIL")}  ${text}`);
  }

  heading(text: string): void {
    this.line("", this.#paint("1", text));
  }

  /** Draws lines over those drawn before. */
  draw(lines: string[]): void {
    const { columns, rows } = this.#size();
    // A line that wraps or scrolls away could not be drawn over.
    const fitting = lines.slice(0, rows - 1).map((line) => line.slice(0, columns));
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A\r` : "";
    this.#write(`${up}${CLEAR_BELOW}${fitting.map((line) => `${line}\n`).join("")}`);
    this.#drawn = fitting.length;
  }

  #size(): { columns: number; rows: number } {
    try {
      const { columns, rows } = Deno.consoleSize();
      if (columns > 0 && rows > 1) return { columns, rows };
    } catch {
      // No terminal to ask.
    }
    return { columns: 80, rows: 24 };
  }

  #paint(style: string, text: string): string {
    return this.terminal && !Deno.noColor ? `\x1b[${style}m${text}\x1b[0m` : text;
  }

  #write(text: string): void {
    const bytes = new TextEncoder().encode(text);
    try {
      for (let written = 0; written < bytes.length;) {
        written += Deno.stdout.writeSync(bytes.subarray(written));
      }
    } catch {
      this.closed();
    }
  }
}
