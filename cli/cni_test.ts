import assert from "node:assert/strict";

/** A module's static imports of code; those of types alone are gone at run time. */
const IMPORT = /^(?:import|export)\s+(?!type\b)[^;]*?from\s+"([^"]+)"|^import\s+"([^"]+)"/gm;

/** What a module, and all that it imports statically, imports by other than a relative path. */
function outsideImports(url: URL, seen = new Set<string>()): string[] {
  if (seen.has(url.href)) return [];
  seen.add(url.href);
  const source = Deno.readTextFileSync(url);
  return [...source.matchAll(IMPORT)].flatMap(([, from, alone]) => {
    const name = from ?? alone;
    return name.startsWith(".") ? outsideImports(new URL(name, url), seen) : [name];
  });
}

Deno.test("a call as CNI plugin loads neither packages nor Node's modules", () => {
  for (const module of ["./main.ts", "./cni.ts", "./paths.ts", "../cni/main.ts"]) {
    assert.deepEqual(outsideImports(new URL(module, import.meta.url)), [], module);
  }
  // The agent's do, so that the search finds them.
  assert.ok(outsideImports(new URL("../agent/run.ts", import.meta.url)).length > 0);
});
