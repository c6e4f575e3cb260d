/**
 * Health checks and metrics over HTTP (`--healthz-port`).
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { isLoopback, tryParseIp } from "../subnet/cidr.ts";
import type { AgentOptions } from "./options.ts";
import { metricsText, notReadyReason, type Status } from "./status.ts";

const log = getLogger(["flanneld", "health"]);

/**
 * Serves `/healthz`, `/readyz` and `/metrics` until `signal` aborts.
 *
 * @throws {Error} where it cannot listen, naming address, port, flag and cause
 */
export function serveHealth(
  address: AgentOptions["healthz"],
  status: Status,
  version: string,
  signal: AbortSignal,
): void {
  const options = {
    hostname: address.ip,
    port: address.port,
    signal,
    onListen: ({ hostname, port }: Deno.NetAddr) =>
      log.info("Start healthz server on {hostname}:{port}", { hostname, port }),
  };
  try {
    Deno.serve(options, (request, { remoteAddr: { hostname } }) => {
      const peer = tryParseIp(hostname.replace(/^::ffff:/, ""));
      const metrics = address.metricsForAll || (peer !== undefined && isLoopback(peer));
      return answer(new URL(request.url).pathname, status, version, metrics);
    });
  } catch (error) {
    throw new Error(listenFault(error, address), { cause: error });
  }
}

/** Why the health server cannot listen, and what to do. */
function listenFault(error: unknown, { ip, port }: AgentOptions["healthz"]): string {
  const where = ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
  const what = `the health server cannot listen on ${where}`;
  if (error instanceof Deno.errors.AddrInUse) {
    return `${what}: TCP port ${port} is in use by another program; set another one by ` +
      "--healthz-port, or 0 for none";
  }
  if (error instanceof Deno.errors.AddrNotAvailable) {
    return `${what}: this host does not have the address ${ip}; set another one by --healthz-ip`;
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return `${what}: permission denied; set a port above 1023 by --healthz-port`;
  }
  return `${what} (--healthz-ip, --healthz-port): ${
    error instanceof Error ? error.message : error
  }`;
}

/** The answer for a path; metrics only where `metrics` says that the caller may have them. */
export async function answer(
  path: string,
  status: Status,
  version: string,
  metrics = true,
): Promise<Response> {
  switch (path) {
    case "/healthz":
      return new Response("flanneld is running\n");
    case "/readyz":
      return readiness(status);
    case "/metrics":
      if (!metrics) {
        return new Response(
          "flanneld answers /metrics to its own host; --healthz-ip, given, opens them to others\n",
          { status: 403 },
        );
      }
      return new Response(stream(metricsText(status, version, await status.tunnel())), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      });
    default:
      return new Response("flanneld serves /healthz, /readyz and /metrics\n", { status: 404 });
  }
}

function readiness(status: Status): Response {
  const reason = notReadyReason(status);
  if (reason === undefined) return new Response("flanneld is ready\n");
  const yet = status.ready ? "" : " yet";
  return new Response(`flanneld is not ready${yet}: ${reason}\n`, { status: 503 });
}

/** Texts as a body that is made as fast as it is taken. */
function stream(texts: Iterator<string>): ReadableStream<Uint8Array<ArrayBuffer>> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    pull(controller) {
      const { value, done } = texts.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
  });
}
