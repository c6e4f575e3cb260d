/**
 * An instance metadata service whose answers change while it runs, which AWS's own mock cannot: the
 * role's credentials are rotated, expire, or are not to be had. Over IPv4 or IPv6, with IMDSv2 only.
 *
 * @module
 */
import { type Instance, REGION } from "./aws.ts";
import { Gate } from "./gate.ts";
import { type NetNs, randomSuffix } from "./netns.ts";

/** The service's addresses on every instance. */
export const METADATA_ADDRESSES = { ipv4: "169.254.169.254", ipv6: "fd00:ec2::254" } as const;

/** Credentials of the instance's role. */
export interface RoleCredentials {
  accessKeyId: string;
  /** Milliseconds from each time they are read to their end; less than 0 for expired ones. */
  lifetime: number;
}

/** See the module. */
export class ChangingMetadata implements AsyncDisposable {
  /** How often credentials were read. */
  reads = 0;
  #hanging = Promise.resolve();
  #isOff = false;
  readonly #tokens = new Set<string>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #gate: Gate;

  private constructor(
    /** The instance that the host is now. */
    public instance: Instance,
    /** What its role has now; undefined: it has no role. */
    public credentials: RoleCredentials | undefined,
  ) {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => this.#answer(request),
    );
    this.#gate = new Gate(this.#server.addr.port);
  }

  /** Serves at the address of `family` of an instance's namespace, until that is removed. */
  static async start(
    instance: Instance,
    ns: NetNs,
    credentials: RoleCredentials,
    family: keyof typeof METADATA_ADDRESSES = "ipv4",
  ): Promise<ChangingMetadata> {
    const metadata = new ChangingMetadata(instance, credentials);
    try {
      await metadata.#serveIn(ns, family);
    } catch (error) {
      await metadata[Symbol.asyncDispose]();
      throw error;
    }
    return metadata;
  }

  async #serveIn(ns: NetNs, family: keyof typeof METADATA_ADDRESSES): Promise<void> {
    const address = METADATA_ADDRESSES[family];
    const [length, nodad] = family === "ipv6" ? [128, ["nodad"]] : [32, []];
    await ns.run("ip", "address", "replace", `${address}/${length}`, "dev", "lo", ...nodad);
    await this.#gate.listenIn(ns, address, 80);
  }

  /** Answers nothing until it is disposed of. */
  hang(): Disposable {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#hanging = promise;
    return { [Symbol.dispose]: resolve };
  }

  /** Refuses all requests until it is disposed of, as where an operator has switched it off. */
  switchOff(): Disposable {
    this.#isOff = true;
    return { [Symbol.dispose]: () => void (this.#isOff = false) };
  }

  async #answer(request: Request): Promise<Response> {
    await this.#hanging;
    if (this.#isOff) return new Response(null, { status: 403 });
    const { pathname } = new URL(request.url);
    if (request.method === "PUT") {
      if (pathname !== "/latest/api/token") return new Response(null, { status: 404 });
      const token = randomSuffix(16);
      this.#tokens.add(token);
      return new Response(token);
    }
    if (!this.#tokens.has(request.headers.get("x-aws-ec2-metadata-token") ?? "")) {
      return new Response(null, { status: 401 });
    }
    const answer = this.#value(pathname.replace(/^\/latest\/meta-data\//, ""));
    return new Response(answer, { status: answer === undefined ? 404 : 200 });
  }

  #value(path: string): string | undefined {
    switch (path) {
      case "instance-id":
        return this.instance.instanceId;
      case "placement/region":
        return REGION;
      case "iam/security-credentials/":
        return this.credentials && "role";
      case "iam/security-credentials/role":
        return this.#credentials();
      default:
        return undefined;
    }
  }

  #credentials(): string | undefined {
    if (this.credentials === undefined) return undefined;
    this.reads++;
    const { accessKeyId, lifetime } = this.credentials;
    return JSON.stringify({
      Code: "Success",
      Type: "AWS-HMAC",
      AccessKeyId: accessKeyId,
      SecretAccessKey: "secret",
      Token: `token of ${accessKeyId}`,
      Expiration: new Date(Date.now() + lifetime).toISOString(),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate[Symbol.asyncDispose]();
    await this.#server.shutdown();
  }
}
