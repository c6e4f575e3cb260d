/**
 * Connections to AWS's servers, straight or through a proxy, each within one time limit.
 *
 * @module
 */
import type { EventEmitter } from "node:events";
import { request } from "node:http";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { proxyError, TransportError, transportError } from "./http_errors.ts";
import { authorityOf, nameOf, type Proxy, proxyFor, type Server } from "./http_proxy.ts";
import { type Environment, type Trust, trustedAuthorities } from "./http_trust.ts";

/** Milliseconds for a connection with all that belongs to it. */
const LIMIT = 5_000;

/**
 * Connects to a server; if its protocol is HTTPS, over TLS and through the proxy that the
 * environment names.
 *
 * @throws {TransportError} naming who cannot be reached, and why
 */
export async function connectTo(server: Server, env: Environment): Promise<Socket> {
  const limit = new AbortController();
  // A signal with a time limit of its own would keep the process from its end until then.
  const timer = setTimeout(() => limit.abort(), LIMIT);
  try {
    return await connectWithin(limit.signal, server, env);
  } finally {
    clearTimeout(timer);
  }
}

async function connectWithin(
  limit: AbortSignal,
  server: Server,
  env: Environment,
): Promise<Socket> {
  let trust: Trust | undefined;
  try {
    if (server.protocol === "http:") return await plain(server, limit);
    trust = await trustedAuthorities(env);
    const proxy = proxyFor(server, env);
    const underlying = proxy && await tunnel(proxy, server, trust, limit);
    return await secure(server, trust.certificates, limit, underlying);
  } catch (error) {
    throw transportError(error, nameOf(server), trust?.source);
  }
}

async function plain({ host, port }: Server, limit: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ host, port });
  try {
    await within(limit, socket, (done) => socket.once("connect", done));
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** TLS with a server, on a connection of its own or on one that leads to it. */
async function secure(
  { host, port }: Server,
  certificates: string[] | undefined,
  limit: AbortSignal,
  underlying?: Socket,
): Promise<Socket> {
  const socket = connectTls({
    host,
    port,
    socket: underlying,
    servername: isIP(host) ? undefined : host,
    ca: certificates,
    rejectUnauthorized: true,
    ALPNProtocols: ["http/1.1"],
  });
  try {
    await within(limit, socket, (done) => socket.once("secureConnect", done));
    return socket;
  } catch (error) {
    socket.destroy();
    underlying?.destroy();
    throw error;
  }
}

/** A connection to a server by way of a proxy. */
async function tunnel(
  proxy: Proxy,
  server: Server,
  { certificates, source }: Trust,
  limit: AbortSignal,
): Promise<Socket> {
  try {
    const socket = proxy.protocol === "https:"
      ? await secure(proxy, certificates, limit)
      : await plain(proxy, limit);
    return await askToConnect(socket, proxy, server, limit);
  } catch (error) {
    throw error instanceof TransportError ? error : proxyError(error, proxy.name, source);
  }
}

async function askToConnect(
  socket: Socket,
  proxy: Proxy,
  server: Server,
  limit: AbortSignal,
): Promise<Socket> {
  const authority = authorityOf(server);
  const asking = request({
    method: "CONNECT",
    path: authority,
    headers: { Host: authority, ...proxyHeaders(proxy) },
    createConnection: () => socket,
  });
  try {
    return await within(limit, asking, (done, fail) => {
      asking.once("connect", ({ statusCode = 0, statusMessage }, leading: Socket) => {
        if (statusCode >= 200 && statusCode < 300) done(leading);
        else fail(refusal(proxy, server, statusCode, statusMessage));
      });
      asking.end();
    });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** What a proxy wants to know of who asks. */
export function proxyHeaders({ authorization }: Proxy): Record<string, string> {
  return authorization ? { "Proxy-Authorization": authorization } : {};
}

/** Why there is no way through a proxy. */
export function refusal(
  { name }: Proxy,
  server: Server,
  status: number,
  reason = "",
): TransportError {
  const what = `${name} refuses a connection to ${nameOf(server)} (${
    `${status} ${reason}`.trim()
  })`;
  const fix = status === 407
    ? "put a user and password that it accepts into its URL, http://USER:PASSWORD@HOST:PORT"
    : "allow the host there, or exclude it with NO_PROXY";
  return new TransportError(`Proxy.${status}`, what, fix);
}

/**
 * What `begin` calls its first argument with, once it does. What listens for errors stays: one that
 * comes later, while nobody waits, ends no process.
 */
function within<T>(
  limit: AbortSignal,
  emitter: EventEmitter,
  begin: (done: (value: T) => void, fail: (error: unknown) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const reason = `no connection within ${LIMIT / 1000} s`;
    const late = () => reject(Object.assign(new Error(reason), { code: "ETIMEDOUT" }));
    if (limit.aborted) late();
    limit.addEventListener("abort", late);
    emitter.on("error", reject);
    emitter.on("close", () => reject(new Error("the connection was closed")));
    begin(resolve, reject);
  });
}
