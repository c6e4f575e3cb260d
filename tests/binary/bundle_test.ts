/** Each module of the bundle loads and exports what the others import, also only when needed. */
import assert from "node:assert/strict";
import { bundle } from "../../tools/bundle.ts";
import { checkBundle } from "../../tools/bundle_check.ts";
import { ROOT } from "../../tools/process.ts";

Deno.test("what the bundle's modules import from each other is there", async () => {
  const folder = await Deno.makeTempDir({ prefix: "flanneld-bundle-" });
  try {
    await bundle(`${ROOT}/cli/main.ts`, folder);
    assert.ok(await checkBundle(folder) > 40, "imports are found");
    // What roles are assumed with: the SDK imports it only for such a profile or a web identity.
    const [sts, ...more] = [...Deno.readDirSync(folder)].map(({ name }) => name)
      .filter((name) => name.startsWith("sts-"));
    assert.deepEqual(more, []);
    const { getDefaultRoleAssumer } = await import(`file://${folder}/${sts}`);
    assert.equal(typeof getDefaultRoleAssumer, "function");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
