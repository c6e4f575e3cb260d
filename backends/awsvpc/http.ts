/**
 * How requests go to AWS: over TLS to servers whose certificates the system or AWS_CA_BUNDLE
 * vouches for.
 *
 * @module
 */
import type { ClientRequestArgs } from "node:http";
import { Agent } from "node:https";
import { isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { TransportError, transportError } from "./http_errors.ts";
import { type Environment, trustedAuthorities } from "./http_trust.ts";

/** Milliseconds for a connection, and for an answer. */
const CONNECT_LIMIT = 5_000;
const ANSWER_LIMIT = 20_000;

/** Connections at most, and how many of them stay open between calls. */
const SOCKETS = 50;

type Request = Parameters<NodeHttpHandler["handle"]>[0];
type Options = Parameters<NodeHttpHandler["handle"]>[1];
type Answer = ReturnType<NodeHttpHandler["handle"]>;

/**
 * The request handler of one client of AWS's SDK. The instance metadata service and the endpoints of
 * container credentials have the SDK's own.
 *
 * @param env where settings are read, at each connection
 */
export function awsRequestHandler(
  env: Environment = (name) => Deno.env.get(name),
): NodeHttpHandler {
  return new AwsHandler(env);
}

class AwsHandler extends NodeHttpHandler {
  constructor(env: Environment) {
    super({
      httpsAgent: new TlsAgent(env),
      connectionTimeout: CONNECT_LIMIT,
      requestTimeout: ANSWER_LIMIT,
      throwOnRequestTimeout: true,
    });
  }

  override async handle(request: Request, options?: Options): Answer {
    try {
      return await super.handle(request, options);
    } catch (error) {
      if (options?.abortSignal?.aborted) throw error;
      throw transportError(error, hostOf(request));
    }
  }
}

/** `ec2.eu-central-1.amazonaws.com`, with its port where that is not the protocol's. */
function hostOf({ hostname, port }: Request): string {
  return port ? `${hostname}:${port}` : hostname;
}

/** Connects with the authorities that are trusted at that time. */
class TlsAgent extends Agent {
  constructor(readonly env: Environment) {
    super({ keepAlive: true, maxSockets: SOCKETS });
  }

  override createConnection(
    destination: ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): Duplex {
    const done = callback as ((error: unknown, socket?: TLSSocket) => void) | undefined;
    connectTls(this.env, destination).then(
      (socket) => done?.(null, socket),
      (error) => done?.(error),
    );
    // The socket comes by the callback, for which Node's types have no form.
    return undefined as unknown as Duplex;
  }
}

async function connectTls(env: Environment, destination: ClientRequestArgs): Promise<TLSSocket> {
  const host = destination.host ?? "localhost";
  const port = Number(destination.port ?? 443);
  const { certificates, source } = await trustedAuthorities(env);
  const socket = connect({
    host,
    port,
    servername: isIP(host) ? undefined : host,
    ca: certificates,
    ALPNProtocols: ["http/1.1"],
  });
  try {
    await established(socket, "secureConnect");
    return socket;
  } catch (error) {
    socket.destroy();
    throw transportError(error, port === 443 ? host : `${host}:${port}`, source);
  }
}

/** Waits for an event of a socket that is connecting. */
async function established(socket: Socket, event: "connect" | "secureConnect"): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const closed = () => reject(new TransportError("ECONNRESET", "the connection was closed"));
  const timer = setTimeout(
    () => reject(new TransportError("ETIMEDOUT", `no connection within ${CONNECT_LIMIT} ms`)),
    CONNECT_LIMIT,
  );
  socket.once(event, resolve).once("error", reject).once("close", closed);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    socket.off(event, resolve).off("error", reject).off("close", closed);
  }
}
