/**
 * Texts as they cross the native library's edge.
 *
 * @module
 */
import type { BaseLibrary } from "./symbols.ts";

/** Reads an answer, `{"ok": …}` or `{"error": "…"}`, and frees it. */
export function take<T>({ symbols }: BaseLibrary, answer: Deno.PointerValue): T {
  const length = symbols.dp_length(answered(answer ?? undefined));
  const copy = new Uint8Array(Number(length));
  symbols.dp_take(answer, copy, length);
  const text = new TextDecoder().decode(copy);
  // Freed now: it may be large, and the next garbage collection far away.
  copy.buffer.transfer(0);
  const body = JSON.parse(text) as { ok: T } | { error: string };
  if ("error" in body) throw new Error(body.error);
  return body.ok;
}

/** What was given; nothing is an error. */
export function answered<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the data plane did not answer");
  return value;
}

/** A text as the library takes it. */
export function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}
