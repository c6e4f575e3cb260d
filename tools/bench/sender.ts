/**
 * Sends datagrams to containers of simulated nodes, chosen at random.
 *
 * `sender.ts PEERS PACKETS`
 *
 * @module
 */
import { simulated } from "./simulated.ts";

const [peers, packets] = Deno.args.map(Number);
const socket = Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port: 0 });
const payload = new Uint8Array(16);
for (let packet = 0; packet < packets; packet++) {
  const { subnet } = simulated(Math.floor(Math.random() * peers));
  await socket.send(payload, {
    transport: "udp",
    hostname: subnet.replace(/0$/, "2"),
    port: 9,
  });
}
socket.close();
