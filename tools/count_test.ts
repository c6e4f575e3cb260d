import assert from "node:assert/strict";
import { TestCount } from "./count.ts";

Deno.test("counts both runners' closing lines, in whatever pieces they come", () => {
  const output = [
    "running 3 tests from ./a_test.ts",
    "\x1b[0m\x1b[32mok\x1b[0m | 12 passed (3 steps) | 0 failed \x1b[38;5;245m(1s)\x1b[0m",
    "\x1b[31mFAILED\x1b[0m | 2 passed | 1 failed (2 steps) | 4 ignored (1s)",
    "test result: ok. 17 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
    "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
    "a test that says 5 passed; 5 failed;",
    "",
  ].join("\n");
  for (const size of [1, 7, output.length]) {
    const count = new TestCount();
    for (let at = 0; at < output.length; at += size) count.add(output.slice(at, at + size));
    assert.deepEqual([count.passed, count.failed], [32, 3]);
  }
});
