/**
 * A whole machine over a network namespace: its own processes, mounts, host name, user `ubuntu` and
 * file system. What is written there stays in its memory, and all of it goes at once when its first
 * process ends: programs, containers, mounts and files.
 *
 * @module
 */
import { basename } from "node:path";
import { exists } from "../tools/process.ts";
import {
  type CommandOptions,
  exec,
  type NetNs,
  type Output,
  type Process,
  run,
  spawn,
  waitFor,
} from "./netns.ts";
import { Terminal } from "./terminal.ts";

/** A file to be on the machine from its start. */
export interface MachineFile {
  /** Path on this host. */
  from: string;
  /** Path on the machine. */
  to: string;
  /** Octal; `644` where absent. */
  mode?: string;
}

/** What {@linkcode Machine.start} makes. */
export interface MachineOptions {
  hostname: string;
  files?: MachineFile[];
  /** Addresses by host name, for `/etc/hosts`. */
  hosts?: Record<string, string>;
  /** Whether the first process is systemd; otherwise it does nothing. */
  systemd?: boolean;
}

/** Milliseconds for a machine to start or to end, where the host is busy. */
const LIMIT = 20_000;

const CGROUPS = "/sys/fs/cgroup";

/** On a machine, what makes systemd of its first process. */
const SYSTEMD = "/usr/local/lib/machine/systemd.sh";

/** The programs that a machine's user finds. */
const PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin";

/** See the module. */
export class Machine implements AsyncDisposable {
  /** Process id of the machine's first process, as the host sees it. */
  #pid = 0;
  readonly #terminals: Terminal[] = [];
  #disposing: Promise<void> | undefined;

  private constructor(
    readonly hostname: string,
    readonly ns: NetNs,
    /** Mount point for the machine; empty for the host. */
    readonly folder: string,
    readonly process: Process,
  ) {}

  /** Starts a machine over a namespace, which the caller disposes of afterwards. */
  static async start(ns: NetNs, options: MachineOptions): Promise<Machine> {
    const { hostname, hosts = {}, files = [], systemd = false } = options;
    const folder = await Deno.makeTempDir({ prefix: `${ns.name}-` });
    const lines = [["127.0.0.1", "localhost"], ...Object.entries(hosts).map(([a, b]) => [b, a])];
    await Deno.writeTextFile(
      `${folder}.hosts`,
      lines.map(([ip, name]) => `${ip}\t${name}\n`).join(""),
    );
    const all: MachineFile[] = [
      ...files,
      { from: `${folder}.hosts`, to: "/etc/hosts" },
      { from: `${import.meta.dirname}/systemd.sh`, to: SYSTEMD },
    ];
    const init = systemd ? `sh ${SYSTEMD} ${ns.name}` : "sleep infinity";
    const script = `${import.meta.dirname}/machine.sh`;
    const process = spawn("nsenter", [
      `--net=/run/netns/${ns.name}`,
      ...["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"],
      ...["sh", script, hostname, folder, ns.name, init],
      ...all.flatMap(({ from, to, mode = "644" }) => [from, to, mode]),
    ]);
    const machine = new Machine(hostname, ns, folder, process);
    try {
      await process.waitForLine(/^ready$/, LIMIT);
      machine.#pid = Number(await run("ps", ["--ppid", String(process.pid), "-o", "pid="]));
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return machine;
  }

  /** Runs a command as root to its end, whatever its status. */
  exec(cmd: string, ...args: string[]): Promise<Output> {
    return exec("nsenter", [...this.#inside(), cmd, ...args], environment());
  }

  /** Runs a command as root and gives its stdout; a status other than 0 is an error. */
  run(cmd: string, ...args: string[]): Promise<string> {
    return run("nsenter", [...this.#inside(), cmd, ...args], environment());
  }

  /** The command by which root gets in from the host. */
  entrance(command: string): string {
    return ["nsenter", ...this.#inside(), command].join(" ");
  }

  /** A new terminal with the shell of `ubuntu`, in its home folder. */
  async terminal(): Promise<Terminal> {
    const terminal = await Terminal.open("nsenter", [
      ...this.#inside(),
      ...["setpriv", "--reuid=ubuntu", "--regid=ubuntu", "--init-groups"],
      ...["env", "-i", "HOME=/home/ubuntu", "USER=ubuntu", "LOGNAME=ubuntu", "TERM=dumb"],
      ...["LANG=C.UTF-8", `PATH=${PATH}`],
    ]);
    this.#terminals.push(terminal);
    return terminal;
  }

  /** Ends all that runs here, as pulling the plug does; nothing of it is left. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposing ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    await this.process[Symbol.asyncDispose]();
    await Promise.all(this.#terminals.map((terminal) => terminal[Symbol.asyncDispose]()));
    await waitFor(() => !exists(`/proc/${this.#pid || "none"}`), {
      limitMs: LIMIT,
      what: `the end of ${this.hostname}`,
    });
    for (const path of [this.folder, `${this.folder}.hosts`]) await Deno.remove(path);
    await removeCgroups((name) => name === this.ns.name);
  }

  #inside(): string[] {
    return ["-t", `${this.#pid}`, "--mount", "--net", "--pid", "--uts", "--ipc", "--"];
  }
}

/** Removes the cgroups, of all hierarchies, whose names fit and whose processes have ended. */
export async function removeCgroups(fits: (name: string) => boolean): Promise<void> {
  for (const hierarchy of [CGROUPS, ...subfolders(CGROUPS)]) {
    for (const path of subfolders(hierarchy).filter((path) => fits(basename(path)))) {
      // A process leaves its cgroup only when it is reaped.
      await waitFor(() => removeCgroup(path), { limitMs: LIMIT, what: `the end of ${path}` });
    }
  }
}

function removeCgroup(path: string): true {
  if (!exists(path)) return true;
  for (const child of subfolders(path)) removeCgroup(child);
  Deno.removeSync(path);
  return true;
}

function subfolders(path: string): string[] {
  return [...Deno.readDirSync(path)].filter(({ isDirectory }) => isDirectory)
    .map(({ name }) => `${path}/${name}`);
}

function environment(): CommandOptions {
  return { clearEnv: true, env: { PATH, HOME: "/root" } };
}
