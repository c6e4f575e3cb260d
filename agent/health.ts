/**
 * Health checks and metrics over HTTP (`--healthz-port`), and the answers to `flanneld peers`.
 * The library listens on a thread of its own; this module makes the answers.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { getLogger } from "@logtape/logtape";
import type { ListenRefusal, Station, Topic } from "../dataplane/station.ts";
import type { AgentOptions } from "./options.ts";
import type { PeersReport } from "./peers_report.ts";
import { metricsText, notReadyReason, type Status } from "./status.ts";

const log = getLogger(["flanneld", "health"]);

/** An answer, whose parts are made as they are taken. */
export interface Answer {
  /** As over HTTP. */
  status: number;
  parts: Iterable<string>;
}

/** What is answered from. */
export interface Sources {
  status: Status;
  version: string;
  /** The peers, once there is a lease. */
  peers: () => Promise<PeersReport> | undefined;
}

/**
 * Begins to listen.
 *
 * @throws {Error} where it cannot over HTTP, naming address, port, flag and cause
 */
export function listen(station: Station, healthz: AgentOptions["healthz"]): void {
  const { refused, noSocket } = station.serve(healthz.port > 0 ? healthz : null);
  if (refused) throw new Error(listenFault(refused, healthz));
  if (noSocket !== null) {
    log.warn("'flanneld peers' will not work: cannot listen on {reason}", { reason: noSocket });
  }
  if (healthz.port > 0) {
    log.info("Start healthz server on {ip}:{port}", { ip: healthz.ip, port: healthz.port });
  }
}

/** Why the health server cannot listen, and what to do. */
function listenFault(
  { reason, message }: ListenRefusal,
  { ip, port }: AgentOptions["healthz"],
): string {
  const where = ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
  const what = `the health server cannot listen on ${where}`;
  switch (reason) {
    case "inUse":
      return `${what}: TCP port ${port} is in use by another program; set another one with ` +
        "--healthz-port, or 0 to turn the health server off";
    case "notAvailable":
      return `${what}: this host does not have the address ${ip}; set another one with --healthz-ip`;
    case "denied":
      return `${what}: permission denied; set a port above 1023 with --healthz-port`;
    case "other":
      return `${what} (--healthz-ip, --healthz-port): ${message}`;
  }
}

/**
 * Answers what is asked until the station is given up. An answer that fails is one client's matter.
 *
 * @param failed told of what failed
 */
export async function answerQuestions(
  station: Station,
  sources: Sources,
  failed: (error: unknown) => void,
): Promise<void> {
  for await (const topic of station.questions()) {
    // What else the event loop has to do comes first.
    await turn();
    try {
      const { status, parts } = await answer(topic, sources);
      for (const part of parts) {
        station.answer(topic, status, part, false);
        await turn();
      }
      station.answer(topic, status, "", true);
    } catch (error) {
      failed(error);
      station.answer(topic, 500, "flanneld failed to answer: see its log\n", true);
    }
  }
}

/** Lets everything else have its turn that is ready. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The answer on a topic. */
export async function answer(topic: Topic, sources: Sources): Promise<Answer> {
  const { status, version } = sources;
  switch (topic) {
    case "health":
      return { status: 200, parts: ["flanneld is running\n"] };
    case "readiness":
      return readiness(status);
    case "metrics":
      return { status: 200, parts: metricsText(status, version, await status.tunnel()) };
    case "peers": {
      const report = await sources.peers();
      return { status: 200, parts: pieces(JSON.stringify(report ?? { notReady: true })) };
    }
  }
}

function readiness(status: Status): Answer {
  const reason = notReadyReason(status);
  if (reason === undefined) return { status: 200, parts: ["flanneld is ready\n"] };
  const yet = status.ready ? "" : " yet";
  return { status: 503, parts: [`flanneld is not ready${yet}: ${reason}\n`] };
}

/** A text in pieces. */
function* pieces(text: string): Generator<string, void, void> {
  const length = 1 << 16;
  // Never within a surrogate pair, whose halves are no text.
  for (let at = 0; at < text.length;) {
    let end = at + length;
    if ((text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end++;
    yield text.slice(at, end);
    at = end;
  }
}
