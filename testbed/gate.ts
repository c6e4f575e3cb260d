/**
 * A way from inside network namespaces to a port on this host's loopback: a Unix socket, which all of
 * them reach.
 *
 * @module
 */
import { type NetNs, waitFor } from "./netns.ts";

/** See the module. */
export class Gate implements AsyncDisposable {
  readonly #folder = Deno.makeTempDirSync({ prefix: "gate-" });
  readonly #listener = Deno.listen({ transport: "unix", path: `${this.#folder}/socket` });

  /** @param port of 127.0.0.1 */
  constructor(readonly port: number) {
    this.#admit().catch(() => {});
  }

  /** Listens inside a namespace, at an address that it has, until that is removed. */
  async listenIn(ns: NetNs, ip: string, port: number): Promise<void> {
    const [kind, host] = ip.includes(":") ? ["TCP6", `[${ip}]`] : ["TCP", ip];
    ns.spawn("socat", [
      `${kind}-LISTEN:${port},bind=${host},reuseaddr,fork`,
      `UNIX-CONNECT:${this.#folder}/socket`,
    ]);
    await waitFor(() => ns.run("bash", "-c", `exec 3<>/dev/tcp/${ip}/${port}`), {
      what: `port ${port} at ${ip} of ${ns.name}`,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #admit(): Promise<void> {
    for await (const from of this.#listener) {
      Deno.connect({ port: this.port }).then((to) => {
        from.readable.pipeTo(to.writable).catch(() => {});
        to.readable.pipeTo(from.writable).catch(() => {});
      }, () => from.close());
    }
  }
}
