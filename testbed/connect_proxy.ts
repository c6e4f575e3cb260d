/**
 * A proxy for HTTP clients, on loopback and inside namespaces: tunnels by CONNECT, forwards requests
 * that name a whole URL, and records all of them.
 *
 * @module
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect, type Server, type Socket } from "node:net";
import type { TlsFiles } from "./certificates.ts";
import { Gate } from "./gate.ts";
import type { NetNs } from "./netns.ts";

/** What a client asked for. */
export interface ProxyRequest {
  /** `CONNECT`, or the method of a request to be forwarded. */
  method: string;
  /** `ec2.eu-central-1.amazonaws.com:443`, or the whole URL. */
  target: string;
  /** Value of the header Proxy-Authorization. */
  authorization: string | undefined;
}

/** See the module. */
export class ConnectProxy implements AsyncDisposable {
  readonly requests: ProxyRequest[] = [];
  /** `user:password` that it asks for. */
  credentials: string | undefined;
  /** Status of all answers; 0: none is given. */
  refusal: number | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, readonly target: number, readonly gate: Gate) {
    this.#server = server;
    server.on("connection", (socket) => this.#keep(socket));
    server.on("connect", (request, socket) => this.#tunnel(request, socket as Socket));
    server.on("request", (request, response) => this.#forward(request, response));
  }

  /**
   * Starts one on loopback, from where all tunnels and requests go to this port of it.
   *
   * @param tls with which clients reach it over TLS
   */
  static async start(target: number, tls?: TlsFiles): Promise<ConnectProxy> {
    const server = tls
      ? createTlsServer({
        cert: Deno.readTextFileSync(tls.cert),
        key: Deno.readTextFileSync(tls.key),
      })
      : createServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as { port: number };
    return new ConnectProxy(server, target, new Gate(port));
  }

  /** Of the proxy, on loopback. */
  get port(): number {
    return this.gate.port;
  }

  /** Serves inside a namespace, too. */
  async serveIn(ns: NetNs, ip: string, port = 3128): Promise<void> {
    await this.gate.listenIn(ns, ip, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gate[Symbol.asyncDispose]();
    const closed = new Promise((done) => this.#server.close(done));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }

  /** Records a request; gives the status that it is refused with, undefined where it is not. */
  #refuses({ method = "", url = "", headers }: IncomingMessage): number | undefined {
    const authorization = headers["proxy-authorization"];
    this.requests.push({ method, target: url, authorization });
    if (this.refusal !== undefined) return this.refusal;
    if (this.credentials === undefined) return undefined;
    return authorization === `Basic ${btoa(this.credentials)}` ? undefined : 407;
  }

  #tunnel(request: IncomingMessage, socket: Socket): void {
    const refusal = this.#refuses(request);
    if (refusal === 0) return;
    if (refusal) {
      socket.end(`HTTP/1.1 ${refusal} No\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    const server = connect(this.target, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      server.pipe(socket);
      socket.pipe(server);
    });
    this.#keep(server);
    server.on("close", () => socket.destroy());
    socket.on("close", () => server.destroy());
  }

  async #forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refusal = this.#refuses(request);
    if (refusal === 0) return;
    if (refusal) {
      response.writeHead(refusal).end();
      return;
    }
    const { pathname, search } = new URL(request.url!);
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    for await (const chunk of request) chunks.push(new Uint8Array(chunk));
    const headers = new Headers();
    for (const [name, value] of Object.entries(request.headers)) {
      if (!/^(host|connection|proxy-.*|content-length)$/.test(name)) headers.set(name, `${value}`);
    }
    const answer = await fetch(`http://127.0.0.1:${this.target}${pathname}${search}`, {
      method: request.method,
      headers,
      body: new Blob(chunks),
    });
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    response.end(new Uint8Array(await answer.arrayBuffer()));
  }
}
