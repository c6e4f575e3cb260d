/**
 * How requests go to AWS: over TLS to servers that the host's authorities vouch for, and through the
 * proxy that the environment names.
 *
 * @module
 */
import { Agent as HttpAgent, type ClientRequestArgs } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { Duplex } from "node:stream";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { checkedResponse } from "./http_answer.ts";
import { connectTo, proxyHeaders, refusal } from "./http_connect.ts";
import { proxyError, TransportError, transportError } from "./http_errors.ts";
import { nameOf, proxyFor, type Server, serverOf } from "./http_proxy.ts";
import type { Environment } from "./http_trust.ts";

/** Milliseconds until an answer begins, the connection included, and from there to its end. */
const ANSWER_LIMIT = 20_000;

/** The base class's words once that is over. */
const LATE = /^@smithy\/.* requestTimeout\.$/;

/**
 * Connections stay open between the calls of one check, some seconds, and keep no process from its
 * end. Until the next check, what is between may have forgotten them without a word (NAT gateways
 * after 350 s), and the call would wait for nothing.
 */
const SOCKETS = { keepAlive: true, maxSockets: 50, timeout: 10_000 };

const ENDPOINT_FIX =
  "correct AWS_ENDPOINT_URL_EC2, AWS_ENDPOINT_URL or endpoint_url in the shared " +
  "config file, whichever is set";

type Request = Parameters<NodeHttpHandler["handle"]>[0];
type Options = Parameters<NodeHttpHandler["handle"]>[1];
type Answer = ReturnType<NodeHttpHandler["handle"]>;

/**
 * The request handler of one client of AWS's SDK. The instance metadata service and the endpoints of
 * container credentials have the SDK's own: no proxy is ever between them and this node.
 *
 * Its requests reject with a {@linkcode TransportError} where no answer comes.
 *
 * @param env where the settings are, read for each connection
 */
export function awsRequestHandler(
  env: Environment = (name) => Deno.env.get(name),
): NodeHttpHandler {
  return new AwsHandler(env);
}

class AwsHandler extends NodeHttpHandler {
  constructor(readonly env: Environment) {
    super({
      httpAgent: new PlainAgent(env),
      httpsAgent: new TlsAgent(env),
      requestTimeout: ANSWER_LIMIT,
      throwOnRequestTimeout: true,
    });
  }

  override async handle(request: Request, options?: Options): Answer {
    const server = serverOf(request);
    if (!/^https?:$/.test(request.protocol)) {
      const reason = `the endpoint's URL begins with ${request.protocol}, not with https://`;
      throw new TransportError("Endpoint", reason, ENDPOINT_FIX);
    }
    try {
      const { response } = server.protocol === "http:"
        ? await this.#plainly(request, server, options)
        : await super.handle(request, options);
      return { response: checkedResponse(response, nameOf(server), ANSWER_LIMIT) };
    } catch (error) {
      throw options?.abortSignal?.aborted ? error : failure(error, server);
    }
  }

  /** A request without TLS is given to a proxy whole. */
  async #plainly(request: Request, server: Server, options?: Options): Answer {
    const proxy = proxyFor(server, this.env);
    if (!proxy) return await super.handle(request, options);
    if (proxy.protocol === "https:") {
      const reason = `${proxy.name} is reached over TLS, which serves only endpoints with TLS`;
      throw new TransportError("Proxy", reason, "name one with http://");
    }
    const { host: hostname, port } = proxy;
    const path = `http://${nameOf(server)}${request.path}`;
    const headers = { ...request.headers, ...proxyHeaders(proxy) };
    const proxied = Object.assign(request.clone(), { hostname, port, path, headers });
    const answer = await super.handle(proxied, options).catch((error) => {
      throw options?.abortSignal?.aborted ? error : proxyError(error, proxy.name);
    });
    const { statusCode, reason } = answer.response;
    if (statusCode === 407) throw refusal(proxy, server, statusCode, reason);
    return answer;
  }
}

function failure(error: unknown, server: Server): TransportError {
  const name = nameOf(server);
  if (error instanceof Error && LATE.test(error.message)) {
    const reason = `${name} has not answered within ${ANSWER_LIMIT / 1000} s`;
    return new TransportError("ETIMEDOUT", reason);
  }
  // The base class calls resets and our own errors timeouts, too.
  return Object.assign(transportError(error, name), { name: "TransportError" });
}

/** How Node's agents are given a connection that is not there at once. */
type Deliver = (error: Error | null, socket: Duplex) => void;

/** In place of a connection that comes later or never, for which Node's types have no form. */
const NO_SOCKET = undefined as unknown as Duplex;

/** Connects by {@linkcode connectTo}. */
class PlainAgent extends HttpAgent {
  constructor(readonly env: Environment) {
    super(SOCKETS);
  }

  override createConnection(options: ClientRequestArgs, deliver?: Deliver): Duplex {
    connect("http:", options, this.env, deliver);
    return NO_SOCKET;
  }
}

/** The same over TLS. */
class TlsAgent extends HttpsAgent {
  constructor(readonly env: Environment) {
    super(SOCKETS);
  }

  override createConnection(options: ClientRequestArgs, deliver?: Deliver): Duplex {
    connect("https:", options, this.env, deliver);
    return NO_SOCKET;
  }
}

function connect(
  protocol: string,
  { host, port }: ClientRequestArgs,
  env: Environment,
  deliver: Deliver = () => {},
): void {
  const server = serverOf({ protocol, hostname: host ?? "", port: port ?? undefined });
  connectTo(server, env).then(
    (socket) => deliver(null, socket),
    (error) => deliver(error, NO_SOCKET),
  );
}
