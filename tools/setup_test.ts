import assert from "node:assert/strict";
import { packagesFor } from "./setup.ts";

Deno.test("dev needs no packages of the tests and the lab, and the tests need all of dev's", () => {
  const dev = packagesFor("dev");
  for (const name of ["etcd-server", "etcd-client", "iproute2", "iputils-ping", "gcc"]) {
    assert.ok(dev.includes(name), name);
  }
  for (const name of ["python3-venv", "docker.io", "containernetworking-plugins"]) {
    assert.ok(!dev.includes(name), name);
  }
  const all = packagesFor("all");
  assert.deepEqual(dev.filter((name) => !all.includes(name)), []);
  assert.ok(all.includes("python3-venv"));
});
