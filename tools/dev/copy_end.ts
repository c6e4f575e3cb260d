/**
 * One end of a TCP copy, run inside a container:
 *
 * - `receive IP` prints the port that it listens at, then what came
 * - `send IP PORT BYTES` sends random bytes and prints what went
 *
 * @module
 */
import { createHash, randomFillSync } from "node:crypto";

/** What an end prints last, as JSON. */
export interface CopyResult {
  bytes: number;
  sha256: string;
  /** From the connection to the last byte. */
  seconds: number;
}

async function receive(hostname: string): Promise<CopyResult> {
  using listener = Deno.listen({ hostname, port: 0 });
  console.log(`port ${listener.addr.port}`);
  using connection = await listener.accept();
  const started = performance.now();
  // Summed up behind the clock: the network is measured, not the hash.
  const chunks: Uint8Array[] = [];
  for (let bytes = 0;;) {
    const buffer = new Uint8Array(256 << 10);
    const count = await connection.read(buffer);
    if (count === null) {
      const seconds = (performance.now() - started) / 1000;
      return { bytes, sha256: sha256(chunks), seconds };
    }
    chunks.push(buffer.subarray(0, count));
    bytes += count;
  }
}

async function send(hostname: string, port: number, bytes: number): Promise<CopyResult> {
  const data = randomFillSync(new Uint8Array(bytes));
  using connection = await Deno.connect({ hostname, port });
  const started = performance.now();
  for (let sent = 0; sent < bytes;) {
    sent += await connection.write(data.subarray(sent, sent + (256 << 10)));
  }
  await connection.closeWrite();
  return { bytes, sha256: sha256([data]), seconds: (performance.now() - started) / 1000 };
}

function sha256(chunks: Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

if (import.meta.main) {
  const [role, ip, port, bytes] = Deno.args;
  const result = role === "receive"
    ? await receive(ip)
    : await send(ip, Number(port), Number(bytes));
  console.log(JSON.stringify(result));
}
