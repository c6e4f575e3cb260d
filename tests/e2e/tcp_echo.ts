/**
 * Both ends of a TCP check, run inside namespaces: `server PORT` sends back what it gets, `client
 * PORT BYTES IP…` sends random bytes to each and fails unless the very same come back.
 *
 * @module
 */
import { createHash, randomBytes } from "node:crypto";

/** Milliseconds for one client's transfers. */
const LIMIT = 20_000;

async function serve(port: number): Promise<void> {
  const listener = Deno.listen({ hostname: "::", port });
  console.log("listening");
  for await (const connection of listener) {
    // A client that goes away must not end the server.
    connection.readable.pipeTo(connection.writable).catch(() => {});
  }
}

/** Sends `data` and compares the checksum of what comes back; the far end closes after us. */
async function check(hostname: string, port: number, data: Uint8Array<ArrayBuffer>): Promise<void> {
  const connection = await Deno.connect({ hostname, port });
  const sending = (async () => {
    await new Blob([data]).stream().pipeTo(connection.writable, { preventClose: true });
    await connection.closeWrite();
  })();
  const hash = createHash("sha256");
  let length = 0;
  for await (const part of connection.readable) {
    hash.update(part);
    length += part.length;
  }
  await sending;
  if (length !== data.length) throw new Error(`${hostname}: ${length} of ${data.length} bytes`);
  if (hash.digest("hex") !== createHash("sha256").update(data).digest("hex")) {
    throw new Error(`${hostname}: other bytes came back`);
  }
}

const [role, port, bytes, ...ips] = Deno.args;
if (role === "server") await serve(Number(port));
else {
  setTimeout(() => {
    console.error(`no end after ${LIMIT} ms`);
    Deno.exit(1);
  }, LIMIT);
  const data = Uint8Array.from(randomBytes(Number(bytes)));
  await Promise.all(ips.map((ip) => check(ip, Number(port), data)));
  console.log(`ok ${ips.length}`);
  Deno.exit(0);
}
