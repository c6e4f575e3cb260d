import assert from "node:assert/strict";
import { LineWriter } from "./line_writer.ts";

/** A stream that takes bytes only once it is opened. */
function stalled() {
  const { promise, resolve: open } = Promise.withResolvers<void>();
  let text = "";
  const write = async (bytes: Uint8Array) => {
    await promise;
    const part = bytes.subarray(0, 1_000);
    text += new TextDecoder().decode(part);
    return part.length;
  };
  return { open, write, text: () => text };
}

Deno.test("lines wait for a stalled reader, and no longer than the limit at the end", async () => {
  const { open, write, text } = stalled();
  const writer = new LineWriter(write, (count) => `lost ${count}`);
  writer.add("one");
  writer.add("two");
  await writer.flush(10);
  assert.equal(text(), "");
  open();
  await writer.flush(5_000);
  assert.equal(text(), "one\ntwo\n");
});

Deno.test("what a stalled reader does not take is bounded, and the gap is told", async () => {
  const { open, write, text } = stalled();
  const writer = new LineWriter(write, (count) => `lost ${count}`, 256 << 10);
  const line = "x".repeat(1_000);
  writer.add("first");
  await writer.flush(10);
  for (let time = 0; time < 10_000; time++) writer.add(line);
  open();
  await writer.flush(5_000);
  writer.add("after");
  await writer.flush(5_000);
  const lines = text().trimEnd().split("\n");
  assert.ok(lines.length < 300, `${lines.length} lines`);
  const [, told] = /^lost (\d+)$/.exec(lines.at(-2)!)!;
  assert.equal(Number(told) + lines.length - 3, 10_000);
  assert.equal(lines.at(-1), "after");
});

Deno.test("a reader that went away stops nothing", async () => {
  const writer = new LineWriter(() => Promise.reject(new Error("EPIPE")), () => "");
  writer.add("one");
  await writer.flush(5_000);
  writer.add("two");
  await writer.flush(5_000);
});
