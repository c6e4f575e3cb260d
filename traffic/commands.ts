/**
 * Runs the packet filters' tools: an argument vector, never a shell, and never for longer than a limit.
 *
 * @module
 */

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
    const { promise: late, resolve: expire } = Promise.withResolvers<CommandResult>();
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      // Not waiting for the output: a grandchild may hold it open.
      expire({ code: -1, stdout: "", stderr: `no end after ${this.#limitMs} ms` });
    }, this.#limitMs);
    try {
      return await Promise.race([talk(child, input), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

async function talk(child: Deno.ChildProcess, input: string): Promise<CommandResult> {
  if (input !== "") await feed(child.stdin, input);
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr).trim() };
}

async function feed(stdin: WritableStream<Uint8Array>, input: string): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(input));
    await writer.close();
  } catch {
    // A command that ended without reading to the end says why by its status and stderr.
  }
}
