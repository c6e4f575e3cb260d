/**
 * Sends datagrams to containers of simulated nodes, chosen at random, and prints the microseconds that
 * one takes: the median of several rounds.
 *
 * `sender.ts PEERS PACKETS`
 *
 * @module
 */
import { median } from "./lib.ts";
import { simulated } from "./simulated.ts";

const ROUNDS = 5;

const [peers, packets] = Deno.args.map(Number);
const socket = Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port: 0 });
const payload = new Uint8Array(16);
const rounds: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const targets = Array.from({ length: packets / ROUNDS }, () => {
    const { subnet } = simulated(Math.floor(Math.random() * peers));
    return { transport: "udp" as const, hostname: subnet.replace(/0$/, "2"), port: 9 };
  });
  const started = performance.now();
  for (const target of targets) await socket.send(payload, target);
  rounds.push((performance.now() - started) * 1000 / targets.length);
}
socket.close();
console.log(median(rounds));
