import assert from "node:assert/strict";
import { storeOptions } from "./agent_options.ts";
import { parseFlags, resolveFlags, type Settings } from "./parse.ts";
import { secretWarnings } from "./secrets.ts";

function settings(args: string[], env: Record<string, string> = {}): Settings {
  return resolveFlags(parseFlags(args).given, (name) => env[name]);
}

Deno.test("a password that was an argument is warned of, one from the environment is not", () => {
  const warned =
    /^--etcd-password was passed as an argument.*FLANNELD_ETCD_PASSWORD or --etcd-password-file$/;
  assert.match(secretWarnings(settings(["--etcd-password=x"]), []).join("\n"), warned);
  const moved = settings([], { FLANNELD_ETCD_PASSWORD: "x" });
  assert.deepEqual(secretWarnings(moved, []), []);
  assert.match(secretWarnings(moved, ["etcd-password"]).join("\n"), warned);
});

Deno.test("a file with a secret is for its owner, and gives the password", () => {
  const path = Deno.makeTempFileSync();
  try {
    Deno.writeTextFileSync(path, "a b\n");
    Deno.chmodSync(path, 0o600);
    const given = settings(["--etcd-username=u", `--etcd-password-file=${path}`]);
    assert.deepEqual(secretWarnings(given, []), []);
    assert.equal(storeOptions(given).password, "a b");
    Deno.chmodSync(path, 0o644);
    assert.deepEqual(secretWarnings(given, []), [
      `--etcd-password-file: every user of this host can read ${path}: run chmod 600 ${path}`,
    ]);
    const both = settings([
      "--etcd-username=u",
      "--etcd-password=x",
      `--etcd-password-file=${path}`,
    ]);
    assert.throws(() => storeOptions(both), /one only/);
    Deno.writeTextFileSync(path, "\n");
    assert.throws(() => storeOptions(given), /is empty/);
  } finally {
    Deno.removeSync(path);
  }
});
