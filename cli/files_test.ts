import assert from "node:assert/strict";
import { checkFile } from "./checks.ts";
import { dockerOpts } from "./docker_opts.ts";
import { validate } from "./config.ts";
import { fileFault, readTextFile, withFile } from "./files.ts";
import { resolveFlags } from "./parse.ts";
import { thisNode } from "./this_node.ts";

Deno.test("an unreadable file: its path and why, in plain words", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/file`, "x");
    await Deno.symlink(`${folder}/loop`, `${folder}/loop`);
    const irregular = { message: "cannot read /dev/null: it is not a regular file" };
    const cases: [string, string][] = [
      [`${folder}/absent`, "no such file"],
      [`${folder}/absent/file`, "no such file"],
      [folder, "a directory, not a file"],
      [`${folder}/file/x`, "a part of the path is not a directory"],
      [`${folder}/loop`, "its symbolic links form a loop"],
      [`${folder}/${"x".repeat(300)}`, "file name too long"],
      ["", "no such file"],
    ];
    const options = { individual: true, combined: true, ipMasq: true, key: "DOCKER_OPTS" };
    const settings = (path: string) =>
      resolveFlags(new Map([["subnet-file", [path]]]), () => undefined);
    for (const [path, reason] of cases) {
      const expected = { message: `cannot read ${path}: ${reason}` };
      assert.throws(() => readTextFile(path), expected);
      assert.equal(checkFile(path), reason, path);
      await assert.rejects(() => validate(settings("/x"), undefined, path), expected);
      if (reason === "no such file") continue;
      if (path === folder) continue;
      await assert.rejects(() => dockerOpts({ ...options, subnetFile: path }), expected);
      assert.throws(() => thisNode(settings(path)), expected);
    }
    await assert.rejects(() => dockerOpts({ ...options, subnetFile: "/dev/null" }), irregular);
    assert.throws(() => thisNode(settings("/dev/null")), irregular);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("docker-opts names the file that it cannot write, or read before", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const subnetFile = `${folder}/subnet.env`;
    await Deno.writeTextFile(subnetFile, "FLANNEL_SUBNET=10.1.40.1/24\nFLANNEL_MTU=1450\n");
    const options = {
      ...{ subnetFile, individual: true, combined: true, ipMasq: true, key: "DOCKER_OPTS" },
    };
    const fails = (more: { output?: string; daemonJson?: string }, message: string) =>
      assert.rejects(() => dockerOpts({ ...options, ...more }), { message });
    const absent = `${folder}/absent/opts`;
    await fails({ output: absent }, `cannot write ${absent}: no such folder`);
    await fails({ output: folder }, `cannot write ${folder}: a directory, not a file`);
    await fails({ daemonJson: folder }, `cannot read ${folder}: a directory, not a file`);
    const under = `${subnetFile}/daemon.json`;
    await fails(
      { daemonJson: under },
      `cannot read ${under}: a part of the path is not a directory`,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("other errors keep their reason; what the program may not do stays its own error", () => {
  assert.equal(
    fileFault(new Error("No space left on device (os error 28): writefile '/x'"), "write"),
    "no space left on device",
  );
  assert.equal(fileFault(new Deno.errors.PermissionDenied("x")), "permission denied");
  const denied = new Deno.errors.NotCapable("Requires read access");
  assert.throws(() =>
    withFile("read", "/x", () => {
      throw denied;
    }), denied);
});
