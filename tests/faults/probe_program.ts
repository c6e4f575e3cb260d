/**
 * A probe's end, run as a program in a container: `probe_program.ts OWN INTERVAL ADDRESS…`
 * sends a numbered datagram from address number OWN to each other one every INTERVAL milliseconds,
 * and takes theirs. Four
 * times a second it prints, as one line of JSON, when each number was sent and when each arrived,
 * in milliseconds since the epoch: a {@linkcode ProbeReport}.
 *
 * @module
 */
import { createSocket } from "node:dgram";

/** What a probe saw since its last report: `[peer, first number, times…]` of a run of numbers. */
export interface ProbeReport {
  sent: [string, number, ...number[]][];
  /** `[peer, number, time]` */
  received: [string, number, number][];
}

/** The first of the ports; each probe sends to the one of its own number. */
const PORT = 7009;
const REPORT_EVERY = 250;

if (import.meta.main) await run(Number(Deno.args[0]), Number(Deno.args[1]), Deno.args.slice(2));

/** @param all addresses of all containers, `own` is the position of this one's */
async function run(own: number, interval: number, all: string[]): Promise<void> {
  const peers = all.filter((_, index) => index !== own);
  const sent = new Map(peers.map((peer) => [peer, [] as number[]]));
  let received: ProbeReport["received"] = [];
  let number = 0;
  let reported = 0;
  // A socket a peer: the buffer that each has by default lasts for ten seconds of its probes, so
  // that a busy machine loses none. The runtime cannot enlarge it.
  for (const [index, address] of all.entries()) {
    if (index === own) continue;
    const socket = await bind(all[own], PORT + index);
    socket.on("message", (data) => {
      received.push([address, data.readUInt32BE(0), Date.now()]);
    });
  }
  const socket = await bind(all[own], PORT + own);
  setInterval(() => {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setUint32(0, number++);
    for (const [peer, times] of sent) {
      times.push(Date.now());
      socket.send(data, PORT + own, peer, () => {});
    }
  }, interval);
  setInterval(() => {
    const report: ProbeReport = {
      sent: [...sent].map(([peer, times]) => [peer, reported, ...times]),
      received,
    };
    console.log(JSON.stringify(report));
    reported = number;
    received = [];
    for (const times of sent.values()) times.length = 0;
  }, REPORT_EVERY);
}

async function bind(address: string, port: number) {
  const socket = createSocket("udp4");
  // A datagram that cannot be sent is one that is lost.
  socket.on("error", () => {});
  await new Promise<void>((done) => socket.bind(port, address, done));
  return socket;
}
