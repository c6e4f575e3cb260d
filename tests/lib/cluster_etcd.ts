/**
 * A real etcd at an address of a network namespace, with TLS and users where wanted.
 *
 * @module
 */
import type { NetNs, Process } from "./netns.ts";
import { run, waitFor } from "./netns.ts";

/** User and password; the user may do everything. */
export interface EtcdUser {
  username: string;
  password: string;
}

/** How clients get in. */
export interface EtcdAccess {
  /** HTTPS only, client certificates required. */
  tls?: boolean;
  /** A user besides `root`, whose password is the same. */
  auth?: EtcdUser;
}

/** Paths of PEM files. */
export interface TlsFiles {
  ca: string;
  cert: string;
  key: string;
}

/** Milliseconds that an etcd on a busy machine may take to serve. */
const START_LIMIT = 20_000;

/** etcd on port 2379 of a namespace; ends with the namespace. */
export class ClusterEtcd {
  /** `http://192.0.2.2:2379` */
  readonly endpoint: string;
  /** Authority, certificate and key for clients; undefined without TLS. */
  tls: TlsFiles | undefined;
  #process: Process | undefined;
  #server: TlsFiles | undefined;
  #authEnabled = false;

  /**
   * @param ip an address of `ns`, where clients reach etcd
   * @param folder existing folder for data and certificates
   */
  constructor(
    readonly ns: NetNs,
    readonly ip: string,
    readonly folder: string,
    readonly access: EtcdAccess,
  ) {
    const host = ip.includes(":") ? `[${ip}]` : ip;
    this.endpoint = `${access.tls ? "https" : "http"}://${host}:2379`;
  }

  /** Makes certificates, starts etcd and sets its users up. */
  async setUp(): Promise<void> {
    if (this.access.tls) {
      const authority = await certificateAuthority(this.folder, "ca");
      this.#server = await certificate(this.folder, "server", authority, [this.ip, "127.0.0.1"]);
      this.tls = await certificate(this.folder, "client", authority);
    }
    await this.start();
    const { auth } = this.access;
    if (!auth) return;
    await this.ctl("user", "add", `root:${auth.password}`);
    await this.ctl("user", "grant-role", "root", "root");
    await this.ctl("user", "add", `${auth.username}:${auth.password}`);
    await this.ctl("user", "grant-role", auth.username, "root");
    await this.ctl("auth", "enable");
    this.#authEnabled = true;
  }

  /** Starts etcd on its data and waits until it serves; also after {@linkcode stop}. */
  async start(): Promise<void> {
    const { tls } = this.access;
    const peer = "http://127.0.0.1:2380";
    const args = [
      ...["--name", "store", "--data-dir", `${this.folder}/data`],
      ...["--listen-client-urls", `${tls ? "https" : "http"}://[::]:2379`],
      ...["--advertise-client-urls", this.endpoint],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", `store=${peer}`],
    ];
    if (this.#server) {
      const { ca, cert, key } = this.#server;
      args.push("--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert);
      args.push("--key-file", key);
    }
    this.#process = this.ns.spawn("etcd", args);
    await this.#process.waitForLine(/ready to serve/, START_LIMIT);
    await waitFor(() => this.ctl("endpoint", "status"), {
      limitMs: START_LIMIT,
      what: `etcd at ${this.endpoint}`,
      intervalMs: 50,
    });
  }

  /** Ends etcd at once, its data stay. */
  async stop(): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
  }

  /** Runs `etcdctl` with everything it needs to get in, and gives its stdout. */
  async ctl(...args: string[]): Promise<string> {
    const options = ["--endpoints", this.endpoint];
    if (this.tls) {
      options.push("--cacert", this.tls.ca, "--cert", this.tls.cert, "--key", this.tls.key);
    }
    if (this.#authEnabled) options.push("--user", `root:${this.access.auth?.password}`);
    return await this.ns.run("env", "ETCDCTL_API=3", "etcdctl", ...options, ...args);
  }

  /** The agent's flags that lead to this etcd. */
  agentArgs(): string[] {
    const args = [`--etcd-endpoints=${this.endpoint}`];
    if (this.tls) {
      const { ca, cert, key } = this.tls;
      args.push(`--etcd-cafile=${ca}`, `--etcd-certfile=${cert}`, `--etcd-keyfile=${key}`);
    }
    const { auth } = this.access;
    if (auth) args.push(`--etcd-username=${auth.username}`, `--etcd-password=${auth.password}`);
    return args;
  }
}

/** Makes a self-signed authority, valid for a day: `NAME.pem` and `NAME.key` in `folder`. */
export async function certificateAuthority(folder: string, name: string): Promise<TlsFiles> {
  const cert = `${folder}/${name}.pem`;
  const key = `${folder}/${name}.key`;
  await run("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
    ...["-days", "1", "-subj", `/CN=${name}`, "-keyout", key, "-out", cert],
  ]);
  return { ca: cert, cert, key };
}

/** Makes a certificate for clients, or for a server at `ips`, that `authority` signs. */
export async function certificate(
  folder: string,
  name: string,
  authority: TlsFiles,
  ips: string[] = [],
): Promise<TlsFiles> {
  const cert = `${folder}/${name}.pem`;
  const key = `${folder}/${name}.key`;
  const request = `${folder}/${name}.csr`;
  const extensions = `${folder}/${name}.ext`;
  // Without a common name: etcd takes one for a user's name, before the password.
  await run("openssl", [
    ...["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
    ...["-subj", `/O=${name}`, "-keyout", key, "-out", request],
  ]);
  const names = ips.length > 0 ? `subjectAltName=${ips.map((ip) => `IP:${ip}`).join(",")}\n` : "";
  await Deno.writeTextFile(extensions, `${names}extendedKeyUsage=serverAuth,clientAuth\n`);
  await run("openssl", [
    ...["x509", "-req", "-in", request, "-CA", authority.cert, "-CAkey", authority.key],
    ...["-CAcreateserial", "-days", "1", "-extfile", extensions, "-out", cert],
  ]);
  return { ca: authority.cert, cert, key };
}
