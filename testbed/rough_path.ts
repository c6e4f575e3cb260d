/**
 * A path that loses and reorders datagrams, run as a program in a namespace between two nodes:
 * `rough_path.ts NEAR FAR LEFT RIGHT` takes datagrams on NEAR and FAR, port 8285, and passes those
 * that LEFT sent to NEAR on to RIGHT from FAR, and back. One in a hundred is lost, one in fifty is
 * held until three more have passed.
 *
 * @module
 */
const PORT = 8285;
const [near, far, left, right] = Deno.args;

function open(hostname: string): Deno.DatagramConn {
  return Deno.listenDatagram({ hostname, port: PORT, transport: "udp" });
}

async function pass(from: Deno.DatagramConn, to: Deno.DatagramConn, hostname: string) {
  const held: { datagram: Uint8Array; due: number }[] = [];
  let count = 0;
  const forward = (datagram: Uint8Array) =>
    to.send(datagram, { hostname, port: PORT, transport: "udp" });
  for await (const [datagram] of from) {
    count++;
    const luck = Math.random();
    if (luck < 0.01) continue;
    if (luck < 0.03) held.push({ datagram, due: count + 3 });
    else await forward(datagram);
    while (held.length > 0 && held[0].due <= count) await forward(held.shift()!.datagram);
  }
}

const [leftSide, rightSide] = [open(near), open(far)];
console.log("ready");
await Promise.all([pass(leftSide, rightSide, right), pass(rightSide, leftSide, left)]);
