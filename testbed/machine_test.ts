import assert from "node:assert/strict";
import { Machine } from "./machine.ts";
import { exec, NetNs, run } from "./netns.ts";
import { KEYS } from "./terminal.ts";

Deno.test("a machine has its own files, processes and user, and leaves nothing behind", async () => {
  await using ns = await NetNs.create("m");
  let folder = "";
  {
    await using machine = await Machine.start(ns, {
      hostname: "nodea",
      hosts: { nodea: "192.0.2.1" },
      files: [{ from: import.meta.filename!, to: "/home/ubuntu/bin/it", mode: "755" }],
    });
    folder = machine.folder;
    assert.equal(await machine.run("hostname"), "nodea\n");
    assert.match(await machine.run("getent", "hosts", "nodea"), /^192\.0\.2\.1 /);
    const terminal = await machine.terminal();
    assert.deepEqual(await terminal.run("sudo id -u; id -un"), {
      status: 0,
      output: "0\nubuntu\n",
    });
    assert.deepEqual(await terminal.run("cd bin && stat -c '%A %U' it"), {
      status: 0,
      output: "-rwxr-xr-x ubuntu\n",
    });
    assert.equal(terminal.folder, "~/bin");
    await terminal.run("sudo touch /etc/of-the-machine /var/lib/docker/x");
    await terminal.start("sudo sh -c 'echo begun; exec sleep 600'");
    await terminal.waitFor(/begun/);
    await terminal.type(KEYS.interrupt);
    assert.equal((await terminal.prompt()).status, 130);
    await terminal.start("exec setsid sleep 601");
  }
  assert.equal((await exec("ls", ["/etc/of-the-machine"])).code, 2);
  assert.equal(await run("ip", ["netns", "pids", ns.name]), "");
  assert.equal((await exec("ls", [folder])).code, 2);
  assert.ok(!(await Deno.readTextFile("/proc/self/mounts")).includes(folder));
});
