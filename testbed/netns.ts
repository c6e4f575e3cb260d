/**
 * Network namespaces as the hosts of a test: made, joined, used and removed without a trace.
 *
 * @example
 * ```ts
 * await using a = await NetNs.create("a");
 * await using b = await NetNs.create("b");
 * await veth({ ns: a, dev: "eth0", addresses: ["192.0.2.1/24"] }, {
 *   ns: b,
 *   dev: "eth0",
 *   addresses: ["192.0.2.2/24"],
 * });
 * await a.run("ping", "-c1", "-W1", "192.0.2.2");
 * ```
 *
 * @module
 */
import { randomBytes } from "node:crypto";

/** What a command that ran to its end left. */
export interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

/** Environment and working folder of a command; the test's own where absent. */
export interface CommandOptions {
  env?: Record<string, string>;
  clearEnv?: boolean;
  cwd?: string;
}

/** Random text of `length` characters from 0-9a-f, for names that must not meet another run's. */
export function randomSuffix(length = 6): string {
  return randomBytes(length).toString("hex").slice(0, length);
}

/**
 * Polls `condition` until it gives a value other than false, null or undefined, and returns that.
 * A condition that throws counts as not yet.
 *
 * @throws Error that names `what` and the last failure after `limitMs` milliseconds
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { limitMs = 5_000, what = "the condition", intervalMs = 20 } = {},
): Promise<NonNullable<Exclude<T, false>>> {
  const start = performance.now();
  let last: unknown;
  while (true) {
    try {
      const value = await condition();
      if (value !== false && value !== null && value !== undefined) {
        return value as NonNullable<Exclude<T, false>>;
      }
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() - start > limitMs) {
      throw new Error(
        `timed out after ${limitMs} ms waiting for ${what}${last ? `: ${last}` : ""}`,
      );
    }
    await new Promise((done) => setTimeout(done, intervalMs));
  }
}

/** Fails with a clear line unless the test runs as root, which namespaces need. */
export function requireRoot(): void {
  if (Deno.uid() !== 0) throw new Error("this test makes network namespaces: run it as root");
}

/** Runs a command on the host itself to its end. */
export async function exec(
  cmd: string,
  args: string[],
  opts: CommandOptions = {},
): Promise<Output> {
  // Command.output() knows nothing of `detached`.
  const output = await command(cmd, args, opts).spawn().output();
  const text = new TextDecoder();
  return {
    code: output.code,
    stdout: text.decode(output.stdout),
    stderr: text.decode(output.stderr),
  };
}

/** As {@linkcode exec}, but a status other than 0 is an error with both outputs; gives stdout. */
export async function run(cmd: string, args: string[], opts: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await exec(cmd, args, opts);
  if (code !== 0) {
    throw new Error(`${cmd} ${args.join(" ")}: status ${code}\n${stdout}${stderr}`.trimEnd());
  }
  return stdout;
}

/** A process that runs in the background; both its outputs are gathered as lines. */
export class Process implements AsyncDisposable {
  /** Lines of stdout and stderr in the order in which they came, without their ends. */
  readonly lines: string[] = [];
  readonly pid: number;
  /** Settles when the process has ended and its output was read. */
  readonly status: Promise<Deno.CommandStatus>;
  #child: Deno.ChildProcess;
  #ended = false;
  #waiters = new Set<() => void>();

  constructor(readonly title: string, child: Deno.ChildProcess) {
    this.#child = child;
    this.pid = child.pid;
    const reading = [this.#gather(child.stdout), this.#gather(child.stderr)];
    this.status = child.status.then(async (status) => {
      // A grandchild may hold the pipes open for longer than the process lives.
      await Promise.race([Promise.all(reading), child.status.then(() => delay(200))]);
      this.#ended = true;
      this.#wake();
      return status;
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /**
   * The first line, past or to come, that matches.
   *
   * @throws Error with all output when the process ends or `limitMs` milliseconds pass before
   */
  async waitForLine(pattern: RegExp, limitMs = 10_000): Promise<RegExpMatchArray> {
    const until = performance.now() + limitMs;
    let seen = 0;
    while (true) {
      for (; seen < this.lines.length; seen++) {
        const match = this.lines[seen].match(pattern);
        if (match) return match;
      }
      const left = until - performance.now();
      if (this.#ended || left <= 0) {
        const why = this.#ended ? "ended" : `was silent for ${limitMs} ms`;
        throw new Error(`${this.title} ${why} without ${pattern}:\n${this.lines.join("\n")}`);
      }
      await this.#change(left);
    }
  }

  /** Sends a signal; nothing where the process has ended. */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.status;
  }

  async #gather(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      this.lines.push(...parts);
      this.#wake();
    }
    if (rest !== "") this.lines.push(rest);
  }

  async #change(limitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    this.#waiters.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiters.delete(resolve);
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }
}

/** Starts a command on the host itself; the caller disposes of it. */
export function spawn(cmd: string, args: string[], opts: CommandOptions = {}): Process {
  return new Process(`${cmd} ${args.join(" ")}`, command(cmd, args, opts).spawn());
}

/**
 * A command in a session of its own: Ctrl-C at the terminal is for this program alone, which then
 * ends its children in its own order and removes what they used.
 */
function command(cmd: string, args: string[], opts: CommandOptions): Deno.Command {
  return new Deno.Command(cmd, {
    args,
    ...opts,
    detached: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** One network namespace, loopback up. */
export class NetNs implements AsyncDisposable {
  #processes: Process[] = [];
  #removed = false;

  private constructor(readonly name: string) {}

  /** Makes `fl-LABEL-RANDOM`. */
  static async create(label: string): Promise<NetNs> {
    requireRoot();
    const ns = new NetNs(`fl-${label}-${randomSuffix()}`);
    try {
      await run("ip", ["netns", "add", ns.name]);
      await ns.run("ip", "link", "set", "lo", "up");
    } catch (error) {
      await ns[Symbol.asyncDispose]();
      throw error;
    }
    return ns;
  }

  /** The namespaces there are by names that match, whoever made them. */
  static async find(pattern: RegExp): Promise<NetNs[]> {
    // A line is the name, or the name and an id in parentheses.
    const names = (await run("ip", ["netns", "list"])).split("\n").map((line) =>
      line.split(" ")[0]
    );
    return names.filter((name) => pattern.test(name)).map((name) => new NetNs(name));
  }

  /** Runs a command inside to its end, whatever its status. */
  exec(cmd: string, ...args: string[]): Promise<Output> {
    return exec("ip", ["netns", "exec", this.name, cmd, ...args]);
  }

  /** Runs a command inside and gives its stdout; a status other than 0 is an error. */
  run(cmd: string, ...args: string[]): Promise<string> {
    return run("ip", ["netns", "exec", this.name, cmd, ...args]);
  }

  /** Starts a command inside. `ip netns exec` becomes the command, so the pid is the command's. */
  spawn(cmd: string, args: string[] = [], opts: CommandOptions = {}): Process {
    if (this.#removed) throw new Error(`the namespace ${this.name} was removed`);
    const process = spawn("ip", ["netns", "exec", this.name, cmd, ...args], opts);
    this.#processes.push(process);
    return process;
  }

  /** Sets a sysctl by its dotted name inside. */
  async sysctl(key: string, value: string | number): Promise<void> {
    await this.run("sysctl", "-qw", `${key}=${value}`);
  }

  /** Ends what was started inside, then removes the namespace and its devices. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#removed) return;
    this.#removed = true;
    await Promise.all(this.#processes.map((process) => process[Symbol.asyncDispose]()));
    // Grandchildren: all that still lives in this namespace was started by way of it.
    const { stdout } = await exec("ip", ["netns", "pids", this.name]);
    for (const pid of stdout.split(/\s+/).filter(Boolean).map(Number)) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    await exec("ip", ["netns", "del", this.name]);
  }
}

/** A device of a namespace that {@linkcode veth} or {@linkcode lan} makes. */
export interface Port {
  ns: NetNs;
  /** Name inside the namespace, 15 bytes at most. */
  dev: string;
  /** Addresses with prefix length, IPv4 and IPv6. */
  addresses?: string[];
  /** Default gateways, one a family at most. */
  via?: string[];
}

/** What {@linkcode veth} and {@linkcode lan} make of their links. */
export interface LinkOptions {
  /** Bytes; the kernel's 1500 where absent. */
  mtu?: number;
}

/** Joins two namespaces by a veth pair. */
export async function veth(a: Port, b: Port, opts: LinkOptions = {}): Promise<void> {
  await pair(a.ns.name, a.dev, b.ns.name, b.dev);
  await configure(a, opts);
  await configure(b, opts);
}

/**
 * Joins any number of namespaces through a bridge in a namespace of its own, the switch, which is
 * returned and which the caller disposes of.
 */
export async function lan(label: string, ports: Port[], opts: LinkOptions = {}): Promise<NetNs> {
  const sw = await NetNs.create(label);
  try {
    await sw.run("ip", "link", "add", "br0", "type", "bridge");
    if (opts.mtu) await sw.run("ip", "link", "set", "br0", "mtu", String(opts.mtu));
    await sw.run("ip", "link", "set", "br0", "up");
    for (const [index, port] of ports.entries()) await plug(sw, `p${index}`, port, opts);
  } catch (error) {
    await sw[Symbol.asyncDispose]();
    throw error;
  }
  return sw;
}

/** Adds one more port, named `name` at the switch, to a switch of {@linkcode lan}. */
export async function plug(
  sw: NetNs,
  name: string,
  port: Port,
  opts: LinkOptions = {},
): Promise<void> {
  await pair(port.ns.name, port.dev, sw.name, name);
  const mtu = opts.mtu ? ["mtu", String(opts.mtu)] : [];
  await sw.run("ip", "link", "set", name, "master", "br0", ...mtu, "up");
  await configure(port, opts);
}

async function pair(nsA: string, devA: string, nsB: string, devB: string): Promise<void> {
  await run("ip", [
    ...["link", "add", devA, "netns", nsA, "type", "veth"],
    ...["peer", "name", devB, "netns", nsB],
  ]);
}

async function configure(port: Port, { mtu }: LinkOptions): Promise<void> {
  const { ns, dev, addresses = [], via = [] } = port;
  if (mtu) await ns.run("ip", "link", "set", dev, "mtu", String(mtu));
  await ns.run("ip", "link", "set", dev, "up");
  for (const address of addresses) {
    // Duplicate address detection would hold an IPv6 address back for a second.
    const nodad = address.includes(":") ? ["nodad"] : [];
    await ns.run("ip", "address", "add", address, "dev", dev, ...nodad);
  }
  for (const gateway of via) {
    const family = gateway.includes(":") ? "-6" : "-4";
    await ns.run("ip", family, "route", "add", "default", "via", gateway);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
