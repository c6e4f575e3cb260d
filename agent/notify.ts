/**
 * systemd's readiness protocol, sd_notify(3): one datagram a state to the socket in NOTIFY_SOCKET.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { Station } from "../dataplane/station.ts";

const log = getLogger(["flanneld", "agent"]);

/**
 * Tells the service manager a state, `READY=1` or `STOPPING=1`; nothing where there is none.
 * A failure is logged and otherwise ignored: forwarding does not depend on it.
 */
export async function notify(station: Station, state: string): Promise<void> {
  const target = Deno.env.get("NOTIFY_SOCKET");
  if (!target) return;
  try {
    await station.notify(target, state);
  } catch (error) {
    log.warn("Cannot send {state} to NOTIFY_SOCKET {target}: {error}", {
      state,
      target,
      error: error instanceof Error ? error.message : String(error),
    });
  }
}
