/**
 * A TCP proxy on the loopback device, to cut a client off from its server and let it back.
 *
 * @module
 */

/** Forwards TCP connections until it is cut, and again after mending. */
export class Proxy implements Disposable {
  readonly #target: number;
  // Stays open when it is cut: the port might be another's by the time of mending.
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections = new Set<Deno.Conn>();
  #isCut = false;

  /** @param address `127.0.0.1:PORT` of the server behind it */
  constructor(address: string) {
    this.#target = Number(address.split(":")[1]);
    this.#accept().catch(() => {});
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#listener.addr.port}`;
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) this.#forward(client).catch(() => close(client));
  }

  async #forward(client: Deno.Conn): Promise<void> {
    const server = this.#isCut
      ? undefined
      : await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
    if (server === undefined || this.#isCut) {
      for (const end of [client, server]) if (end) close(end);
      return;
    }
    for (const end of [client, server]) this.#connections.add(end);
    client.readable.pipeTo(server.writable).catch(() => {});
    server.readable.pipeTo(client.writable).catch(() => {});
  }

  /** Ends all connections; new ones are ended at once. */
  cut(): void {
    this.#isCut = true;
    for (const connection of this.#connections) close(connection);
    this.#connections.clear();
  }

  mend(): void {
    this.#isCut = false;
  }

  [Symbol.dispose](): void {
    this.cut();
    this.#listener.close();
  }
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}
