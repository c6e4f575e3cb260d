/**
 * Datagrams made by hand, for the tunnel to take or to drop.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { NetNs } from "./netns.ts";

/** Port of the udp backend. */
export const TUNNEL_PORT = 8285;

/** A UDP packet over IPv4 without a UDP checksum, to port 9, where nobody listens. */
export function udpPacket(source: string, destination: string, { ttl = 64 } = {}): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  bytes.set([0x45, 0, 0, bytes.length, 0, 0, 0x40, 0, ttl, 17, 0, 0]);
  bytes.set([...source.split("."), ...destination.split(".")].map(Number), 12);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  view.setUint16(10, ~((sum & 0xffff) + (sum >> 16)));
  view.setUint16(20, 9);
  view.setUint16(22, 9);
  view.setUint16(24, 12);
  return bytes;
}

/** Sends datagrams from an address and port of a namespace, one after the other. */
export async function shoot(
  ns: NetNs,
  from: { hostname: string; port: number },
  hostname: string,
  datagrams: Uint8Array[],
): Promise<void> {
  const program = `const from = Deno.listenDatagram(${
    JSON.stringify({ transport: "udp", ...from })
  });
    const to = ${JSON.stringify({ transport: "udp", hostname, port: TUNNEL_PORT })};
    for (const hex of Deno.args) await from.send(Uint8Array.fromHex(hex), to);`;
  const hex = datagrams.map((datagram) => Buffer.from(datagram).toString("hex"));
  await ns.run(Deno.execPath(), "eval", "--unstable-net", program, ...hex);
}
