/**
 * A byte-exact TCP transfer between two namespaces, which runs this file as a program in each: `serve` takes one
 * connection and prints the SHA-256 of what came, `send ADDRESS PORT BYTES` sends that many
 * pseudo-random bytes and prints the SHA-256 of what it sent.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import type { NetNs } from "./netns.ts";

const PORT = 5300;
const CHUNK = 1 << 20;

/** Sends `bytes` by TCP and demands that they come as they went; gives the seconds it took. */
export async function transfer(
  from: NetNs,
  to: NetNs,
  address: string,
  bytes: number,
): Promise<number> {
  const program = [Deno.execPath(), "run", "--allow-net", import.meta.filename!] as const;
  await using server = to.spawn(program[0], [...program.slice(1), "serve"]);
  await server.waitForLine(/^listening/, 20_000);
  const started = performance.now();
  const sent = await from.run(...program, "send", address, String(bytes));
  const [, digest] = await server.waitForLine(/^digest (\S+)/, 60_000);
  assert.equal(sent.trim(), `digest ${digest}`);
  return (performance.now() - started) / 1000;
}

async function serve(): Promise<void> {
  const listener = Deno.listen({ hostname: "::", port: PORT });
  console.log("listening");
  const connection = await listener.accept();
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK);
  let length: number | null;
  while ((length = await connection.read(buffer)) !== null) hash.update(buffer.subarray(0, length));
  console.log(`digest ${hash.digest("hex")}`);
  connection.close();
  listener.close();
}

async function send(hostname: string, bytes: number): Promise<void> {
  const connection = await Deno.connect({ hostname, port: PORT });
  const hash = createHash("sha256");
  const cipher = createCipheriv("aes-128-ctr", randomBytes(16), randomBytes(16));
  const zeros = new Uint8Array(CHUNK);
  for (let left = bytes; left > 0; left -= CHUNK) {
    const chunk = cipher.update(zeros.subarray(0, Math.min(left, CHUNK)));
    hash.update(chunk);
    for (let at = 0; at < chunk.length;) at += await connection.write(chunk.subarray(at));
  }
  connection.close();
  console.log(`digest ${hash.digest("hex")}`);
}

if (import.meta.main) {
  const [mode, address, bytes] = Deno.args;
  await (mode === "serve" ? serve() : send(address, Number(bytes)));
}
