/**
 * The running agent answers who asks for its peers, on an abstract Unix socket (unix(7)) beside the
 * lock's: it lives in the network namespace, as the forwarding does that it tells of.
 *
 * Whoever connects gets one JSON document, and the end. There is nothing to ask for, so there is no
 * HTTP either, which would cost the idle agent its server.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { isLocked } from "./lock.ts";
import type { PeersReport } from "./peers_report.ts";

const log = getLogger(["flanneld", "status"]);

const PATH = "\0flanneld/status";

/** Milliseconds that one answer may take, to write and to read. */
const LIMIT = 5_000;
/** Milliseconds before accepting again after a failure, as when files run out. */
const PAUSE = 1_000;

/**
 * Answers with `report` until `signal` aborts. A socket that cannot be had is a warning: forwarding
 * does not depend on it.
 *
 * @param path of the socket, for tests
 */
export function serveStatus(
  report: () => Promise<PeersReport>,
  signal: AbortSignal,
  path = PATH,
): void {
  if (signal.aborted) return;
  let listener: Deno.UnixListener;
  try {
    listener = Deno.listen({ transport: "unix", path });
  } catch (error) {
    log.warn("'flanneld peers' will not work: cannot listen on @{name}: {error}", {
      name: path.slice(1),
      error: String(error),
    });
    return;
  }
  signal.addEventListener("abort", () => listener.close(), { once: true });
  acceptAll(listener, report, signal);
}

async function acceptAll(
  listener: Deno.UnixListener,
  report: () => Promise<PeersReport>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      answer(await listener.accept(), report);
    } catch (error) {
      if (signal.aborted) return;
      log.debug("Status socket: {error}", { error: String(error) });
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }
}

async function answer(
  connection: Deno.UnixConn,
  report: () => Promise<PeersReport>,
): Promise<void> {
  using open = closing(connection);
  try {
    const bytes = new TextEncoder().encode(JSON.stringify(await report()));
    for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
  } catch (error) {
    // It went away, or was too slow.
    if (!open.closed) log.debug("Status socket: {error}", { error: String(error) });
  }
}

/** Closes a connection when disposed, or when its time is up. */
function closing(connection: Deno.UnixConn): Disposable & { closed: boolean } {
  const guard = {
    closed: false,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      if (guard.closed) return;
      guard.closed = true;
      connection.close();
    },
  };
  const timer = setTimeout(guard[Symbol.dispose], LIMIT);
  return guard;
}

/**
 * Asks the agent of this network namespace.
 *
 * @throws Error of one line where none runs, is ready or answers
 */
export async function askStatus(path = PATH): Promise<PeersReport> {
  let connection: Deno.UnixConn;
  try {
    connection = await Deno.connect({ transport: "unix", path });
  } catch (error) {
    // Reset is what a socket gives that is about to go.
    const { ConnectionRefused, ConnectionReset } = Deno.errors;
    if (!(error instanceof ConnectionRefused || error instanceof ConnectionReset)) throw error;
    throw new Error(
      await isLocked()
        ? "flanneld is not ready on this node yet: see its log for what it waits for"
        : "no flanneld runs on this node (in this network namespace)",
    );
  }
  using open = closing(connection);
  try {
    return JSON.parse(await readAll(connection));
  } catch (error) {
    const reason = open.closed ? `no answer within ${LIMIT / 1000} s` : String(error);
    throw new Error(`flanneld runs on this node and does not tell its peers: ${reason}`);
  }
}

async function readAll(connection: Deno.UnixConn): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(1 << 16);
  let text = "";
  let length: number | null;
  while ((length = await connection.read(buffer)) !== null) {
    text += decoder.decode(buffer.subarray(0, length), { stream: true });
  }
  return text + decoder.decode();
}
