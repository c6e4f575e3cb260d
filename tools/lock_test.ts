import assert from "node:assert/strict";
import { ROOT } from "./process.ts";

const read = (path: string) => Deno.readTextFileSync(`${ROOT}/${path}`);

Deno.test("deno.lock is frozen, and has a hash for each npm package and nothing else", () => {
  const { lock, imports } = JSON.parse(read("deno.json"));
  assert.equal(lock.frozen, true);
  for (const source of Object.values(imports as Record<string, string>)) {
    assert.match(source, /^npm:(@[a-z0-9-]+\/)?[a-z0-9.-]+@\d+\.\d+\.\d+$/, "an exact version");
  }
  const { npm, remote, jsr } = JSON.parse(read("deno.lock"));
  assert.deepEqual([remote, jsr], [undefined, undefined]);
  for (const [name, { integrity }] of Object.entries<{ integrity?: string }>(npm)) {
    assert.match(integrity ?? "", /^sha512-[A-Za-z0-9+/]{86}==$/, name);
  }
});

Deno.test("Cargo.lock has a checksum for each crate, all from one registry", () => {
  const sources = new Set<string>();
  for (const path of ["dataplane-rs/Cargo.lock", "dataplane-rs/fuzz/Cargo.lock"]) {
    for (const entry of read(path).split("[[package]]\n").slice(1)) {
      const field = (name: string) => new RegExp(`^${name} = "(.*)"$`, "m").exec(entry)?.[1] ?? "";
      // Ours have none.
      if (field("source") === "") continue;
      sources.add(field("source"));
      assert.match(field("checksum"), /^[0-9a-f]{64}$/, field("name"));
    }
  }
  assert.match([...sources].join(" "), /^registry\+https:\S+$/);
});
