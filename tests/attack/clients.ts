/**
 * HTTP clients that do what they should not, to be run in a host's network namespace:
 * `deno run -A clients.ts '{"port":8081,"count":100,"send":"GET "}'`. Prints `sent` once all have
 * connected and sent, then holds the connections.
 *
 * @module
 */
import { connect, type Socket } from "node:net";

/** What the clients do. */
export interface Attack {
  port: number;
  /** Clients at a time. */
  count: number;
  /** What each sends, in UTF-16 code units below 256. */
  send: string;
  /** Repeats this, so many milliseconds apart, until the connection ends. */
  trickle?: { text: string; everyMs: number };
  /** A client whose connection ends begins another one. */
  again?: boolean;
  /** Addresses to come from, in 127.0.0.0/8; one where absent. */
  sources?: number;
  /** Whether the answers are read; else they are left where they are. */
  reads?: boolean;
}

function begin(attack: Attack, index: number, sent: () => void): void {
  const { port, send, trickle, again, sources = 1, reads } = attack;
  const localAddress = `127.0.${1 + (index % sources >> 8)}.${index % sources & 255 || 255}`;
  const socket: Socket = connect({ host: "127.0.0.1", port, localAddress });
  if (!reads) socket.pause();
  let timer: ReturnType<typeof setInterval> | undefined;
  let done = false;
  socket.on("connect", () => {
    socket.write(send, "latin1");
    sent();
    if (trickle) {
      timer = setInterval(() => socket.write(trickle.text, "latin1"), trickle.everyMs);
    }
  });
  const over = () => {
    if (done) return;
    done = true;
    clearInterval(timer);
    socket.destroy();
    if (again) setTimeout(() => begin(attack, index, () => {}), 1);
  };
  for (const event of ["error", "end", "close"]) socket.on(event, over);
}

if (import.meta.main) {
  const attack = JSON.parse(Deno.args[0]) as Attack;
  let sent = 0;
  for (let index = 0; index < attack.count; index++) {
    begin(attack, index, () => {
      if (++sent === attack.count) console.log("sent");
    });
  }
  setInterval(() => {}, 1_000_000);
}
