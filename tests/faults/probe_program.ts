/**
 * A probe's end, run as a program in a container: `probe_program.ts OWN INTERVAL PEER…` sends a
 * numbered datagram to each peer every INTERVAL milliseconds and takes those of the others. Four
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

const PORT = 7009;
const REPORT_EVERY = 250;
/** Bytes of the socket's buffer: several seconds of probes, so that a busy machine loses none. */
const BUFFER = 4 << 20;

if (import.meta.main) await run(Deno.args[0], Number(Deno.args[1]), Deno.args.slice(2));

async function run(own: string, interval: number, peers: string[]): Promise<void> {
  const socket = createSocket("udp4");
  await new Promise<void>((done) => socket.bind(PORT, own, done));
  socket.setRecvBufferSize(BUFFER);
  socket.setSendBufferSize(BUFFER);
  const sent = new Map(peers.map((peer) => [peer, [] as number[]]));
  let received: ProbeReport["received"] = [];
  let number = 0;
  let reported = 0;
  socket.on("message", (data, { address }) => {
    received.push([address, data.readUInt32BE(0), Date.now()]);
  });
  // A datagram that cannot be sent is one that is lost.
  socket.on("error", () => {});
  setInterval(() => {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setUint32(0, number++);
    for (const [peer, times] of sent) {
      times.push(Date.now());
      socket.send(data, PORT, peer, () => {});
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
