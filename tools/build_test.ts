import assert from "node:assert/strict";
import { notAvailable } from "./build.ts";

Deno.test("a build that packs does not begin with what looks like a failure", () => {
  const download =
    "error: Writing deno compile executable to temporary file 'dist/flanneld.tmp-1' " +
    "Caused by: 0: Setting up base binary. 1: error sending request for url (https://x/y.zip)";
  const cases: [string, string][] = [
    [download, "its base cannot be downloaded"],
    ["not done within 120 s", "not done within 120 s"],
    ["error: Module not found: file:///x", "Module not found"],
    ["deno compile failed", "deno compile failed"],
  ];
  for (const [reason, short] of cases) {
    assert.equal(
      notAvailable(reason),
      `build: deno compile is not available here (${short}): packing instead`,
    );
  }
});
