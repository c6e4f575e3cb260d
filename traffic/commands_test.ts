import assert from "node:assert/strict";
import { Commands } from "./commands.ts";

const shell = async (script: string, input?: string, limitMs = 5_000) => {
  const began = performance.now();
  const result = await new Commands({ limitMs }).run("/bin/sh", ["-c", script], input);
  return { ...result, ms: performance.now() - began };
};

Deno.test("a command's result does not wait for what it left running", async () => {
  for (
    const script of [
      "sleep 20 & echo rules; exit 3",
      "exec 3<&0; sleep 20 <&3 & echo rules; exit 3",
    ]
  ) {
    const { code, stdout, ms } = await shell(script, "x".repeat(1 << 20));
    assert.deepEqual([code, stdout], [3, "rules\n"]);
    assert.ok(ms < 4_000, `${ms}`);
  }
});

Deno.test("a command that is too late is ended, whoever holds its output", async () => {
  for (const script of ["exec sleep 20", "sleep 20 & exec sleep 20"]) {
    const { code, stderr, ms } = await shell(script, "", 300);
    assert.deepEqual([code, stderr], [-1, "timeout after 300 ms"]);
    assert.ok(ms < 4_000, `${ms}`);
  }
});

Deno.test("commands leave no descriptors behind", async () => {
  const open = () => [...Deno.readDirSync("/proc/self/fd")].length;
  await shell("echo 1");
  const before = open();
  for (let index = 0; index < 10; index++) await shell("sleep 20 & echo 1");
  assert.ok(open() < before + 5, `${before} to ${open()}`);
});

Deno.test("long output and input are whole", async () => {
  const text = "rule\n".repeat(1 << 18);
  assert.equal((await shell("cat", text)).stdout, text);
});
