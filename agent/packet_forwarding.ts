/**
 * Whether the host forwards packets between its containers and the other hosts (`ip_forward`).
 *
 * The agent switches it on only for a bridge that it made itself: other bridges' owners, such as
 * Docker, do so for theirs.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { ForwardingAnswer, ForwardingQuery } from "../dataplane/state.ts";

const log = getLogger(["flanneld", "forwarding"]);

/** See the module. */
export class PacketForwarding {
  readonly #ask: (query: ForwardingQuery) => ForwardingAnswer;
  #query: ForwardingQuery | undefined;
  #warned = "";

  /** @param ask the data plane's part */
  constructor(ask: (query: ForwardingQuery) => ForwardingAnswer) {
    this.#ask = ask;
  }

  /** What should forward from the next {@linkcode check} on. */
  want(query: ForwardingQuery): void {
    this.#query = query;
  }

  /** Looks, and switches on where that is wanted. What stays off is logged once. */
  check(): void {
    if (this.#query === undefined) return;
    const { enabled, off, error } = this.#ask(this.#query);
    if (enabled.length > 0) {
      log.info("Enabled packet forwarding for the bridge: {settings}", {
        settings: enabled.map((name) => `${name}=1`).join(", "),
      });
    }
    const warning = off.length > 0 ? warningOf(off, error) : "";
    if (warning !== "" && warning !== this.#warned) log.warn("{warning}", { warning });
    this.#warned = warning;
  }
}

/** How to switch on what is off. */
export function forwardingRemedy(off: string[]): string {
  const remedies = [
    off.some((name) => name.startsWith("net.ipv4.")) && "net.ipv4.ip_forward=1",
    off.some((name) => name.startsWith("net.ipv6.")) && "net.ipv6.conf.all.forwarding=1",
  ].filter((remedy) => remedy !== false);
  return `run "sysctl -w ${remedies.join(" ")}"`;
}

function warningOf(off: string[], error: string | undefined): string {
  const remedy = forwardingRemedy(off);
  const fault = `Packet forwarding is off (${off.join(", ")})`;
  return error === undefined
    ? `${fault}: packets between containers and other hosts are lost unless the container runtime ` +
      `enables it; ${remedy}`
    : `${fault} and cannot be enabled (${error}): packets between containers and other hosts are ` +
      `lost; on the host, ${remedy}`;
}
