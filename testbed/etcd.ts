/**
 * A real etcd for one test, on a loopback port of its own or inside a network namespace.
 *
 * @example
 * ```ts
 * await using etcd = await Etcd.start();
 * await etcd.ctl("put", "/coreos.com/network/config", '{"Network":"10.1.0.0/16"}');
 * ```
 *
 * @module
 */
import { certificate, certificateAuthority, type TlsFiles } from "./certificates.ts";
import { type Process, run, spawn, waitFor } from "./netns.ts";

/** User and password; the user may do everything. */
export interface EtcdUser {
  username: string;
  password: string;
}

/** What {@linkcode Etcd.start} makes. */
export interface EtcdOptions {
  /** `HOST:PORT` for clients; a free port of 127.0.0.1 where absent. */
  address?: string;
  /** Name of an existing network namespace to run in. */
  netns?: string;
  /** HTTPS only, client certificates required. */
  tls?: boolean;
  /** A user who may do everything; `root` has the same password. */
  auth?: EtcdUser;
  /** Existing folder to put data and certificates in; the system's for temporary files if absent. */
  parent?: string;
  /** More flags of etcd. */
  args?: string[];
}

/** Milliseconds that an etcd on a busy machine may take to serve. */
const START_LIMIT = 20_000;

/** A port of 127.0.0.1 that nobody listens on now. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** An etcd of one member with a temporary folder; both go when it is disposed of. */
export class Etcd implements AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  /** Authority, certificate and key for clients; undefined without TLS. */
  tls: TlsFiles | undefined;
  /** The authority with its key, to sign more certificates. */
  authority: TlsFiles | undefined;
  #server: TlsFiles | undefined;
  #process: Process | undefined;
  #authEnabled = false;
  readonly #peer: string;

  private constructor(
    /** Holds data and certificates. */
    readonly folder: string,
    readonly address: string,
    readonly options: EtcdOptions,
  ) {
    this.endpoint = `${options.tls ? "https" : "http"}://${address}`;
    this.#peer = `http://127.0.0.1:${options.netns ? 2380 : freePort()}`;
  }

  /** Makes what is asked for, starts etcd and waits until it answers. */
  static async start(options: EtcdOptions = {}): Promise<Etcd> {
    const folder = await Deno.makeTempDir({ dir: options.parent, prefix: "etcd-" });
    const address = options.address ?? `127.0.0.1:${freePort()}`;
    const etcd = new Etcd(folder, address, options);
    try {
      if (options.tls) await etcd.#makeCertificates();
      await etcd.restart();
      if (options.auth) await etcd.#enableAuth(options.auth);
    } catch (error) {
      await etcd[Symbol.asyncDispose]();
      throw error;
    }
    return etcd;
  }

  async #makeCertificates(): Promise<void> {
    const host = this.address.slice(0, this.address.lastIndexOf(":")).replace(/[[\]]/g, "");
    this.authority = await certificateAuthority(this.folder, "ca");
    this.#server = await certificate(this.folder, "server", this.authority, [host]);
    this.tls = await certificate(this.folder, "client", this.authority);
  }

  async #enableAuth({ username, password }: EtcdUser): Promise<void> {
    await this.ctl("user", "add", `root:${password}`);
    await this.ctl("user", "grant-role", "root", "root");
    await this.ctl("user", "add", `${username}:${password}`);
    await this.ctl("user", "grant-role", username, "root");
    await this.ctl("auth", "enable");
    this.#authEnabled = true;
  }

  /** Starts etcd on its data again, at the same address, after {@linkcode stop}. */
  async restart(): Promise<void> {
    const server = this.#server;
    const args = [
      ...["--name", "test", "--data-dir", `${this.folder}/data`, "--log-level", "error"],
      ...["--listen-client-urls", this.endpoint, "--advertise-client-urls", this.endpoint],
      ...["--listen-peer-urls", this.#peer, "--initial-advertise-peer-urls", this.#peer],
      ...["--initial-cluster", `test=${this.#peer}`],
      ...(server
        ? [
          ...["--client-cert-auth", "--trusted-ca-file", server.ca],
          ...["--cert-file", server.cert, "--key-file", server.key],
        ]
        : []),
      ...(this.options.args ?? []),
    ];
    const [command, ...rest] = this.#inNamespace(["etcd", ...args]);
    const process = spawn(command, rest);
    this.#process = process;
    await waitFor(() => {
      if (process.ended) return "ended";
      return this.ctl("endpoint", "health").then(() => "healthy");
    }, { limitMs: START_LIMIT, what: `etcd at ${this.endpoint}` });
    if (process.ended) throw new Error(`etcd did not start:\n${process.lines.join("\n")}`);
  }

  /** Ends etcd at once, as kill -9 does; its data stay. */
  async stop(): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
    this.#process = undefined;
  }

  /** Runs `etcdctl` with all it needs to get in, and gives its stdout. */
  async ctl(...args: string[]): Promise<string> {
    const options = ["--endpoints", this.endpoint];
    if (this.tls) {
      options.push("--cacert", this.tls.ca, "--cert", this.tls.cert, "--key", this.tls.key);
    }
    if (this.#authEnabled) options.push("--user", `root:${this.options.auth?.password}`);
    const [command, ...rest] = this.#inNamespace(["etcdctl", ...options, ...args]);
    return await run(command, rest, { env: { ETCDCTL_API: "3" } });
  }

  /** Puts a file's content under a key: more than a command line may have. */
  async put(key: string, file: string): Promise<void> {
    const [command, ...rest] = this.#inNamespace(["etcdctl", "--endpoints", this.endpoint]);
    await this.#runWithInput(file, [command, ...rest, "put", key]);
  }

  /** Carries out up to 128 operations, `put KEY "VALUE"` with the value quoted as JSON, in one transaction. */
  async transaction(operations: string[]): Promise<void> {
    const file = `${this.folder}/transaction`;
    await Deno.writeTextFile(file, `\n${operations.join("\n")}\n\n\n`);
    await this.#runWithInput(
      file,
      this.#inNamespace(["etcdctl", "--endpoints", this.endpoint, "txn"]),
    );
  }

  async #runWithInput(file: string, command: string[]): Promise<void> {
    const script = 'input=$1; shift; exec "$@" <"$input"';
    await run("sh", ["-c", script, "sh", file, ...command], { env: { ETCDCTL_API: "3" } });
  }

  #inNamespace(command: string[]): string[] {
    const { netns } = this.options;
    return netns === undefined ? command : ["ip", "netns", "exec", netns, ...command];
  }

  /** Ends etcd and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await Deno.remove(this.folder, { recursive: true }).catch(() => {});
  }
}
