/**
 * A terminal with a shell, that one types into and reads from as a person does: `script` of
 * util-linux gives the program in it a real terminal.
 *
 * @module
 */
import { randomSuffix } from "./netns.ts";

/** Keys that are no letters. */
export const KEYS = { interrupt: "\x03", telnetEscape: "\x1d" };

/** What a command left. */
export interface Ended {
  status: number;
  output: string;
}

/** ECMA-48's control sequences. */
const CONTROL = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, "g");

/** Milliseconds that a command may take where nothing else is said. */
const LIMIT = 30_000;

/** See the module. */
export class Terminal implements AsyncDisposable {
  /** Working folder, `~` for the user's home, as the shell showed it last. */
  folder = "~";
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #reading: Promise<void>;
  readonly #prompt: RegExp;
  /** All that was printed since the last command was typed. */
  #text = "";
  /** How much of the output was taken. */
  #taken = 0;
  #ended = false;
  #wake: () => void = () => {};

  private constructor(child: Deno.ChildProcess, token: string) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#reader = child.stdout.getReader();
    this.#prompt = new RegExp(`<${token} (\\d+) ([^\n>]*)>`);
    this.#reading = this.#read();
  }

  /** Opens one by a command that runs its further arguments as a program. */
  static async open(command: string, args: string[]): Promise<Terminal> {
    const token = randomSuffix(8);
    const shell = "bash --norc --noprofile --noediting";
    const child = new Deno.Command(command, {
      args: [...args, "script", "-qf", "-c", shell, "/dev/null"],
      detached: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const terminal = new Terminal(child, token);
    try {
      // Written in two parts, so that the echo of the line does not look like the prompt.
      const prompt = `PS1='<'${token}' $? \\w>'`;
      await terminal.type(`cd; set +H; stty -echo cols 160 rows 50; PS2=; ${prompt}\n`);
      await terminal.waitFor(terminal.#prompt);
    } catch (error) {
      await terminal[Symbol.asyncDispose]();
      throw error;
    }
    return terminal;
  }

  /** What was printed since the last command was typed, without prompts. */
  get output(): string {
    return withoutControls(this.#text).replace(this.#prompt, "");
  }

  /** The part of {@linkcode output} that was not taken before. */
  take(): string {
    const { output } = this;
    const fresh = output.slice(this.#taken);
    this.#taken = output.length;
    return fresh;
  }

  /** Types a command and waits for the next prompt. */
  async run(command: string, limitMs = LIMIT): Promise<Ended> {
    await this.start(command);
    return await this.prompt(limitMs);
  }

  /** Types a command that goes on running. */
  async start(command: string): Promise<void> {
    this.#text = "";
    this.#taken = 0;
    await this.type(`${command}\n`);
  }

  /** Waits for the prompt after the command that was typed last. */
  async prompt(limitMs = LIMIT): Promise<Ended> {
    const [, status, folder] = await this.waitFor(this.#prompt, limitMs);
    this.folder = folder;
    return { status: Number(status), output: this.output };
  }

  /** Types keys, for whatever reads them. */
  async type(keys: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(keys));
  }

  /**
   * Waits until what was printed since the last command matches.
   *
   * @throws Error with all that was printed, after `limitMs` milliseconds or at the shell's end
   */
  async waitFor(pattern: RegExp, limitMs = LIMIT): Promise<RegExpMatchArray> {
    const until = performance.now() + limitMs;
    while (true) {
      const match = this.#text.match(pattern);
      if (match) return match;
      const left = until - performance.now();
      if (this.#ended || left <= 0) {
        const why = this.#ended ? "the terminal was closed" : `nothing within ${limitMs} ms`;
        throw new Error(`${why} that matches ${pattern}:\n${this.output}`);
      }
      await this.#change(left);
    }
  }

  /** Ends the terminal alone; what runs in it ends with the machine. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    await this.#child.status;
    // A program in the terminal may hold the pipes open.
    await this.#writer.abort().catch(() => {});
    await this.#reader.cancel();
    await this.#reading;
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for (let chunk = await this.#reader.read(); !chunk.done; chunk = await this.#reader.read()) {
      this.#text += decoder.decode(chunk.value, { stream: true }).replaceAll("\r", "");
      this.#wake();
    }
    this.#ended = true;
    this.#wake();
  }

  async #change(limitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, limitMs);
    await promise;
    clearTimeout(timer);
  }
}

/** Text without what steers a terminal: colours and the like. */
function withoutControls(text: string): string {
  return text.replaceAll(CONTROL, "");
}
