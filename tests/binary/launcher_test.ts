/**
 * The one binary's launcher, with a small runtime behind it in place of the real one: a shell script
 * that tells how it was started.
 */
import assert from "node:assert/strict";
import { exists } from "../../tools/process.ts";
import { buildLauncher } from "../../tools/lib.ts";
import { BINARY } from "../../tools/runtime.ts";

const RUNTIME = `#!/bin/sh
case "$1" in
  exit) exit "$2" ;;
  sleep) echo started; exec sleep 60 ;;
  comm) read -r comm < /proc/self/comm; echo "$comm" ;;
  *) echo "argv0=$_FLANNELD_ARGV0 deno=$DENO_V8_FLAGS lib=$_FLANNELD_LIB args=$*"
     cat "$_FLANNELD_LIB" ;;
esac
`;
const HEAD = "exec\tflanneld\nenv\t_FLANNELD_LIB\t{path:lib}\n";

/** Folders and a packed binary for one test. */
interface Setup {
  binary: string;
  cache: string;
  folder: string;
}

const decoder = new TextDecoder();

async function output(program: string, args: string[], env: Record<string, string> = {}) {
  const result = await new Deno.Command(program, { args, env, clearEnv: true, stdin: "null" })
    .output();
  const { code, signal } = result;
  return { code, signal, out: decoder.decode(result.stdout), err: decoder.decode(result.stderr) };
}

/** A test with a packed binary whose second file has `size` bytes. */
function launcherTest(name: string, body: (setup: Setup) => Promise<void>, size = 8): void {
  Deno.test(`launcher: ${name}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "flanneld-launcher-" });
    try {
      const tools = await buildLauncher();
      await Deno.writeTextFile(`${folder}/runtime`, RUNTIME);
      await Deno.writeTextFile(`${folder}/head`, HEAD);
      await Deno.writeTextFile(`${folder}/lib`, "library\n".repeat(size / 8));
      const binary = `${folder}/program`;
      const packed = await output(tools.pack, [
        binary,
        tools.launcher,
        `${folder}/head`,
        "1",
        `${folder}/kept`,
        `flanneld=${folder}/runtime`,
        `lib=${folder}/lib`,
      ]);
      assert.equal(packed.code, 0, packed.err);
      await body({ binary, cache: `${folder}/cache`, folder });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

function cached(cache: string, name: string): string {
  const [id] = [...Deno.readDirSync(cache)].filter(({ name }) => /^[0-9a-f]{32}$/.test(name));
  return `${cache}/${id.name}/${name}`;
}

launcherTest("becomes the runtime, with its arguments and without its settings", async (setup) => {
  const { binary, cache } = setup;
  const env = { FLANNELD_CACHE_DIR: cache, DENO_V8_FLAGS: "--x" };
  const first = await output(binary, ["a b", "c"], env);
  assert.equal(first.err, "");
  assert.equal(
    first.out,
    `argv0=${binary} deno= lib=${cached(cache, "lib")} args=a b c\nlibrary\n`,
  );
  assert.equal((await output(binary, ["exit", "7"], env)).code, 7);
  assert.equal((await output(binary, ["comm"], env)).out, "flanneld\n");
});

launcherTest("passes signals, being one process", async ({ binary, cache }) => {
  const child = new Deno.Command(binary, {
    args: ["sleep"],
    env: { FLANNELD_CACHE_DIR: cache },
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  try {
    assert.equal(decoder.decode((await reader.read()).value), "started\n");
    const children = `/proc/${child.pid}/task/${child.pid}/children`;
    assert.equal(Deno.readTextFileSync(children), "");
    child.kill("SIGUSR1");
    assert.equal((await child.status).signal, "SIGUSR1");
  } finally {
    await reader.cancel();
  }
});

launcherTest("runs without an environment", async ({ binary }) => {
  const started = await output(binary, ["x"]);
  assert.match(started.out, /args=x\nlibrary\n$/);
  const folder = /lib=(.*)\/lib /.exec(started.out)?.[1] ?? "";
  assert.ok(folder.startsWith("/"), started.out);
  await Deno.remove(folder, { recursive: true });
});

launcherTest("eight first starts at once all run", async ({ binary, cache }) => {
  const env = { FLANNELD_CACHE_DIR: cache };
  const starts = await Promise.all(Array.from({ length: 8 }, () => output(binary, ["x"], env)));
  const lines = starts.map(({ code, err, out }) => ({ code, err, start: out.slice(-17) }));
  for (const line of lines) {
    assert.deepEqual(line, { code: 0, err: "", start: "library\n".repeat(3).slice(-17) });
  }
  assert.deepEqual([...Deno.readDirSync(cache)].length, 1);
}, 64_000_000);

launcherTest("a start killed while it unpacks leaves nothing in the way", async (setup) => {
  const { binary, cache } = setup;
  const env = { FLANNELD_CACHE_DIR: cache };
  const child = new Deno.Command(binary, { args: ["sleep"], env, stdout: "null" }).spawn();
  const limit = Date.now() + 10_000;
  while (!exists(`${cache}/.unpack/lib`)) {
    assert.ok(Date.now() < limit, "the launcher did not begin to unpack");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  child.kill("SIGKILL");
  assert.equal((await child.status).signal, "SIGKILL");
  assert.ok(exists(`${cache}/.unpack/lib`), "it was killed too late to show anything");
  const next = await output(binary, ["exit", "0"], env);
  assert.deepEqual([next.code, next.err], [0, ""]);
  assert.ok(!exists(`${cache}/.unpack`));
  assert.equal(Deno.statSync(cached(cache, "lib")).size, 160_000_000);
}, 160_000_000);

launcherTest("a file changed in the cache is put back", async ({ binary, cache }) => {
  const env = { FLANNELD_CACHE_DIR: cache };
  await output(binary, ["x"], env);
  for (const name of ["lib", "flanneld"]) {
    await Deno.writeTextFile(cached(cache, name), "changed\n");
    const next = await output(binary, ["x"], env);
    assert.match(next.out, /args=x\nlibrary\n$/);
  }
});

launcherTest("a folder that others could change is not used", async (setup) => {
  const { binary, folder } = setup;
  const open = `${folder}/open`;
  await Deno.mkdir(open);
  await Deno.chmod(open, 0o777);
  await Deno.symlink(open, `${folder}/link`);
  for (const path of [open, `${folder}/link`, `${open}/below`]) {
    const started = await output(binary, ["x"], { FLANNELD_CACHE_DIR: path });
    assert.match(started.err, /^flanneld: FLANNELD_CACHE_DIR is not used: .*\n$/);
    assert.match(started.out, /args=x\nlibrary\n$/);
    assert.ok(!started.out.includes(`lib=${path}`));
    assert.deepEqual([...Deno.readDirSync(open)], []);
    await Deno.remove(/lib=(.*)\/lib /.exec(started.out)?.[1] ?? "", { recursive: true });
  }
});

launcherTest("a full folder is left for the next", async ({ binary, folder }) => {
  const full = `${folder}/full`;
  await Deno.mkdir(full);
  const script = `mount -t tmpfs -o size=1m,mode=0700 none ${full} && exec ${binary} x`;
  const started = await output("/usr/bin/unshare", ["--mount", "sh", "-c", script], {
    PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    FLANNELD_CACHE_DIR: full,
  });
  assert.match(started.err, /^flanneld: FLANNELD_CACHE_DIR is not used: room for lib: .*\n$/);
  const lib = /lib=(.*)\/lib /.exec(started.out)?.[1] ?? "";
  assert.ok(lib !== "" && !lib.startsWith(full), started.out.slice(0, 200));
  await Deno.remove(lib, { recursive: true });
}, 8_000_000);

launcherTest("runs from memory where nothing can be written", async ({ binary }) => {
  const started = await output("/usr/bin/unshare", [
    "--mount",
    "sh",
    "-c",
    `${READ_ONLY}; exec ${binary} x`,
  ], { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" });
  assert.match(started.out, /lib=\/proc\/self\/fd\/\d+ args=x\nlibrary\n$/, started.err);
});

/** In a mount namespace: makes every mounted file system read-only. */
const READ_ONLY = `for mounted in $(awk '{ print $5 }' /proc/self/mountinfo); do
  mount -o remount,bind,ro "$mounted" 2>/dev/null
done`;

launcherTest("a damaged file says so", async ({ binary, cache }) => {
  const bytes = await Deno.readFile(binary);
  // The last byte before the manifest, whose place is in the trailer.
  const manifest = new DataView(bytes.buffer).getBigUint64(bytes.length - 56, true);
  bytes[Number(manifest) - 1] ^= 0xff;
  await Deno.writeFile(binary, bytes);
  const started = await output(binary, ["x"], { FLANNELD_CACHE_DIR: cache });
  assert.equal(started.code, 1);
  assert.match(
    started.err,
    /^flanneld: cannot start: this file is damaged \(\w+\): copy it again\n$/,
  );
  await Deno.truncate(binary, bytes.length - 1);
  const cut = await output(binary, ["x"], { FLANNELD_CACHE_DIR: cache });
  assert.match(cut.err, /^flanneld: cannot start: this file is damaged .*\n$/);
});

Deno.test("the built binary runs from memory where nothing can be written", async () => {
  const fromMemory = (args: string) => {
    const script = `${READ_ONLY}; exec ${BINARY} ${args}`;
    return output("/usr/bin/unshare", ["--mount", "sh", "-c", script], {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    });
  };
  const started = await fromMemory("--version");
  assert.match(started.out, /^v\d+\.\d+\.\d+\n$/, started.err);
  // A command whose modules come later, and that may read no files besides.
  assert.match((await fromMemory("man")).out, /^\.TH FLANNELD /);
});

Deno.test("the built binary runs in an empty home without an environment", async () => {
  const first = await output(BINARY, ["--version"]);
  assert.match(first.out, /^v\d+\.\d+\.\d+\n$/, first.err);
});
