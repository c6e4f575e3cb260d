/**
 * Runs the packet filters' tools: an argument vector, never a shell, and never for longer than a limit.
 *
 * @module
 */
import { sleep } from "../base/time.ts";

/** What a command left; `code` -1 where it was ended for taking too long. */
export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Whether a command failed since the kernel lacks the packet filter: then it holds no rules. */
export function unsupported({ code, stderr }: CommandResult): boolean {
  return code !== 0 && /not supported|table does not exist|insmod/i.test(stderr);
}

/** Folders searched after PATH: a service's PATH often lacks them. */
const SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Where commands are looked for and how they are started. */
export interface CommandsOptions {
  /** Folders to search, in order; those of PATH and the system's where absent. */
  folders?: string[];
  /** Words before each command: `["ip", "netns", "exec", "nodea"]`. */
  prefix?: string[];
  /** Milliseconds after which a command is ended; 10,000 where absent. */
  limitMs?: number;
}

/**
 * Milliseconds without output after which it is complete once the command has ended: a process that
 * it left behind may hold the pipe open for as long as it likes.
 */
const QUIET_MS = 100;

/** Finds and runs commands. */
export class Commands {
  readonly folders: readonly string[];
  #prefix: string[];
  #limitMs: number;
  #found = new Map<string, string>();

  constructor({ folders, prefix = [], limitMs = 10_000 }: CommandsOptions = {}) {
    const path = Deno.env.get("PATH")?.split(":").filter((folder) => folder !== "") ?? [];
    this.folders = folders ?? [...new Set([...path, ...SYSTEM_FOLDERS])];
    this.#prefix = prefix;
    this.#limitMs = limitMs;
  }

  /** Absolute path of a command; undefined where it is not installed (which is asked anew each time). */
  async find(name: string): Promise<string | undefined> {
    const known = this.#found.get(name);
    if (known) return known;
    for (const folder of this.folders) {
      const path = `${folder}/${name}`;
      try {
        const info = await Deno.stat(path);
        if (!info.isFile || ((info.mode ?? 0) & 0o111) === 0) continue;
      } catch {
        continue;
      }
      this.#found.set(name, path);
      return path;
    }
    return undefined;
  }

  /** Runs `path`, a result of {@linkcode find}, with `input` on its standard input. */
  async run(path: string, args: string[], input = ""): Promise<CommandResult> {
    const [program, ...rest] = [...this.#prefix, path, ...args];
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command(program, {
        args: rest,
        clearEnv: true,
        env: { PATH: this.folders.join(":"), LC_ALL: "C" },
        stdin: input === "" ? "null" : "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    } catch (error) {
      // Uninstalled meanwhile: looked for again at the next call.
      this.#found.clear();
      return { code: -1, stdout: "", stderr: String(error) };
    }
    const talk = new Talk(child, input);
    const { promise: late, resolve: expire } = Promise.withResolvers<CommandResult>();
    const timer = setTimeout(() => {
      expire({ code: -1, stdout: "", stderr: `timeout after ${this.#limitMs} ms` });
    }, this.#limitMs);
    try {
      return await Promise.race([talk.result(), late]);
    } finally {
      clearTimeout(timer);
      talk.end();
    }
  }
}

/** What is exchanged with a child, none of which is waited for once it is over. */
class Talk {
  readonly #child: Deno.ChildProcess;
  readonly #fed: Promise<void>;
  readonly #outputs: Output[];
  readonly #over = new AbortController();
  #ended = false;

  constructor(child: Deno.ChildProcess, input: string) {
    this.#child = child;
    this.#outputs = [new Output(child.stdout), new Output(child.stderr)];
    this.#fed = input === "" ? Promise.resolve() : feed(child.stdin, input, this.#over.signal);
  }

  /** Resolves when the child has ended, and its output, too, unless a grandchild holds it open. */
  async result(): Promise<CommandResult> {
    const { code } = await this.#child.status;
    this.#ended = true;
    const all = Promise.all([this.#fed, ...this.#outputs.map((output) => output.complete)]);
    await Promise.race([all, this.#quiet()]);
    const [stdout, stderr] = this.#outputs.map((output) => output.text);
    return { code, stdout, stderr: stderr.trim() };
  }

  /** Resolves when nothing has come for {@linkcode QUIET_MS} twice, so that a busy loop cuts nothing. */
  async #quiet(): Promise<void> {
    const length = () => this.#outputs.reduce((sum, { text }) => sum + text.length, 0);
    for (let quiet = 0, last = length(); quiet < 2 && !this.#over.signal.aborted;) {
      await sleep(QUIET_MS);
      quiet = length() === last ? quiet + 1 : 0;
      last = length();
    }
  }

  /** Ends the child where it still runs, and closes the pipes whoever else holds them. */
  end(): void {
    if (!this.#ended) {
      try {
        this.#child.kill("SIGKILL");
      } catch {
        // It ended meanwhile.
      }
    }
    this.#over.abort();
    for (const output of this.#outputs) output.close();
  }
}

/** Gathers what comes out of a pipe. */
class Output {
  /** Resolves at the end of the output, or when it is closed. */
  readonly complete: Promise<void>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();
  #text = "";

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#reader = stream.getReader();
    this.complete = this.#read();
  }

  /** What has come until now. */
  get text(): string {
    return this.#text;
  }

  close(): void {
    this.#reader.cancel().catch(() => {});
  }

  async #read(): Promise<void> {
    try {
      while (true) {
        const { done, value } = await this.#reader.read();
        if (done) return;
        this.#text += this.#decoder.decode(value, { stream: true });
      }
    } catch {
      // A pipe that breaks gives no more.
    }
  }
}

async function feed(
  stdin: WritableStream<Uint8Array>,
  input: string,
  over: AbortSignal,
): Promise<void> {
  const writer = stdin.getWriter();
  over.addEventListener("abort", () => writer.abort().catch(() => {}), { once: true });
  try {
    await writer.write(new TextEncoder().encode(input));
    await writer.close();
  } catch {
    // A command that ended without reading to the end says why by its status and stderr.
  }
}
