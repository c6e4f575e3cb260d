/**
 * systemd's readiness protocol, sd_notify(3): one datagram a state to the socket in NOTIFY_SOCKET.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";

const log = getLogger(["flanneld", "agent"]);

/**
 * Tells the service manager a state, `READY=1` or `STOPPING=1`; nothing where there is none.
 * A failure is logged and otherwise ignored: forwarding does not depend on it.
 */
export async function notify(state: string): Promise<void> {
  const target = Deno.env.get("NOTIFY_SOCKET");
  if (!target) return;
  try {
    const socket = Deno.listenDatagram({
      transport: "unixpacket",
      // An abstract address (unix(7)): there is no file to leave behind.
      path: `\0flanneld/notify/${Deno.pid}`,
    });
    try {
      await socket.send(new TextEncoder().encode(state), {
        transport: "unixpacket",
        // systemd writes an abstract address with @ for the leading zero byte.
        path: target.startsWith("@") ? "\0" + target.slice(1) : target,
      });
    } finally {
      socket.close();
    }
  } catch (error) {
    log.warn("Could not tell {state} to NOTIFY_SOCKET {target}: {error}", {
      state,
      target,
      error: String(error),
    });
  }
}
