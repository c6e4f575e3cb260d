/**
 * A TCP proxy on the loopback device, to cut a client off from its server and let it back.
 *
 * @module
 */
import { freePort } from "./etcd.ts";

/** Forwards TCP connections until it is cut, and again after mending. */
export class Proxy implements Disposable {
  readonly #port = freePort();
  readonly #target: number;
  #listener: Deno.TcpListener | undefined;
  readonly #connections = new Set<Deno.Conn>();

  /** @param address `127.0.0.1:PORT` of the server behind it */
  constructor(address: string) {
    this.#target = Number(address.split(":")[1]);
    this.mend();
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  mend(): void {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: this.#port });
    this.#accept(this.#listener).catch(() => {});
  }

  async #accept(listener: Deno.TcpListener): Promise<void> {
    for await (const client of listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
      for (const end of [client, server]) this.#connections.add(end);
      client.readable.pipeTo(server.writable).catch(() => {});
      server.readable.pipeTo(client.writable).catch(() => {});
    }
  }

  cut(): void {
    this.#listener?.close();
    this.#listener = undefined;
    for (const connection of this.#connections) {
      try {
        connection.close();
      } catch (error) {
        if (!(error instanceof Deno.errors.BadResource)) throw error;
      }
    }
    this.#connections.clear();
  }

  [Symbol.dispose](): void {
    this.cut();
  }
}
