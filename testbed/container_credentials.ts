/**
 * Credentials as an agent beside containers serves them, inside a network namespace: ECS's at
 * 169.254.170.2, EKS Pod Identity's at 169.254.170.23.
 *
 * @module
 */
import { type NetNs, type Process, waitFor } from "./netns.ts";

/** A request that came. */
export interface ContainerRequest {
  path: string;
  /** The header; empty where there is none. */
  authorization: string;
}

/** See the module. */
export class ContainerCredentials implements AsyncDisposable {
  /** All requests, in the order of their coming. */
  readonly requests: ContainerRequest[] = [];
  /** What `Authorization` must be. */
  token = "";
  accessKey = "container";
  /** Seconds from each answer until the credentials in it end. */
  lifetime = 3600;
  readonly #server: Deno.HttpServer<Deno.UnixAddr>;
  #gate: Process | undefined;
  readonly #folder = Deno.makeTempDirSync({ prefix: "container-" });

  private constructor() {
    this.#server = Deno.serve(
      { path: `${this.#folder}/socket`, onListen: () => {} },
      (request) => this.#answer(request),
    );
  }

  /** Serves at port 80 of a link-local address, which the namespace is given. */
  static async start(ns: NetNs, ip: string): Promise<ContainerCredentials> {
    const server = new ContainerCredentials();
    try {
      await ns.run("ip", "address", "replace", `${ip}/32`, "dev", "lo");
      server.#gate = ns.spawn("socat", [
        `TCP-LISTEN:80,bind=${ip},reuseaddr,fork`,
        `UNIX-CONNECT:${server.#folder}/socket`,
      ]);
      await waitFor(() => ns.run("bash", "-c", `exec 3<>/dev/tcp/${ip}/80`), {
        what: `container credentials at ${ip} of ${ns.name}`,
      });
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  #answer(request: Request): Response {
    const authorization = request.headers.get("authorization") ?? "";
    this.requests.push({ path: new URL(request.url).pathname, authorization });
    if (authorization !== this.token) {
      return Response.json({ Code: "AccessDenied", Message: "wrong token" }, { status: 403 });
    }
    return Response.json({
      AccessKeyId: this.accessKey,
      SecretAccessKey: "secret",
      Token: "token",
      Expiration: new Date(Date.now() + this.lifetime * 1000).toISOString(),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate?.[Symbol.asyncDispose]();
    await this.#server.shutdown();
    await Deno.remove(this.#folder, { recursive: true });
  }
}
