import assert from "node:assert/strict";
import { ENTRIES, KINDS } from "../cli/permissions.ts";
import { buildProgram } from "../cli/program.ts";
import { grantLines, SECRET_FLAGS, widestPermissions } from "./grants.ts";

Deno.test("each sub-command has an entry, and only the agent's stands for more", () => {
  const commands = buildProgram().commands.map((command) => command.name());
  const entries = Object.keys(ENTRIES).flatMap((entry) => entry.split(","));
  assert.deepEqual(commands.filter((name) => !entries.includes(name)), []);
  assert.equal(entries[0], "agent");
});

Deno.test("the manifest's lines: the first entry is the agent's, programs by name alone", () => {
  const lines = grantLines().map((fields) => fields.join(" "));
  assert.equal(lines[0], "grant agent net");
  assert.ok(lines.includes("grant agent run program nft"));
  assert.ok(lines.includes("grant agent ffi text {path:libdataplane.so}"));
  assert.ok(lines.includes("grant agent read variable HOME/.aws"));
  assert.ok(lines.includes("grant agent write folder subnet-file=/run/flannel/subnet.env"));
  const all = lines.filter((line) => /grant \S+ (run|write|ffi)$/.test(line));
  // Which plugins it runs and where its files lie, the network config says.
  assert.deepEqual(all, ["grant cni,flannel run", "grant cni,flannel write"]);
  assert.deepEqual(SECRET_FLAGS, ["etcd-password"]);
});

Deno.test("no binary may do all", () => {
  const flags = widestPermissions();
  assert.equal(flags.length, KINDS.length);
  assert.ok(flags.some((flag) => /^--allow-sys=networkInterfaces/.test(flag)));
});
