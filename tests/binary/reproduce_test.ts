/** The program's modules are the same from two folders; the whole binary takes `deno task reproduce`. */
import assert from "node:assert/strict";
import { packFiles } from "../../tools/pack.ts";
import { buildLauncher } from "../../tools/lib.ts";
import { reproduce } from "../../tools/reproduce.ts";

Deno.test("two copies of the sources make the same modules", async () => {
  const hashes = await reproduce(true);
  assert.ok(Object.keys(hashes).length > 10, `${Object.keys(hashes)}`);
});

Deno.test("packing twice makes the same file", async () => {
  const folder = await Deno.makeTempDir({ prefix: "flanneld-pack-" });
  try {
    const tools = await buildLauncher();
    const packed: Uint8Array[] = [];
    for (const name of ["a", "b"]) {
      const files = { flanneld: tools.pack, "main.js": new URL(import.meta.url).pathname };
      await packFiles(
        tools,
        files,
        "exec\tflanneld\n",
        `${folder}/${name}`,
        `${folder}/kept${name}`,
      );
      packed.push(await Deno.readFile(`${folder}/${name}`));
    }
    assert.deepEqual(packed[0], packed[1]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
