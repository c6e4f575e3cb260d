import assert from "node:assert/strict";
import { NetNs, type Process, requireRoot, spawn } from "../../testbed/netns.ts";

const MAIN = `${import.meta.dirname}/../../tools/dev/main.ts`;
/** Milliseconds for all that the lab does before its live view, on a busy machine. */
const LIMIT = 120_000;

/** A run that is stopped, and cleaned up behind, when the test is over. */
class Dev implements AsyncDisposable {
  readonly process: Process;

  constructor(args: string[], env: Record<string, string> = {}) {
    requireRoot();
    const command = ["run", "-A", MAIN, ...args];
    this.process = spawn(Deno.execPath(), command, { env: { NO_COLOR: "1", ...env } });
  }

  /** Output of the whole run. */
  get text(): string {
    return this.process.lines.join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGTERM");
    await Promise.race([this.process.status, new Promise((done) => setTimeout(done, 10_000))]);
    await this.process[Symbol.asyncDispose]();
    const left = await NetNs.find(new RegExp(`^fl-dev${this.process.pid}-`));
    await Promise.all(left.map((ns) => ns[Symbol.asyncDispose]()));
  }
}

/** What a run with this process id has on the machine. */
async function traces(pid: number): Promise<string[]> {
  const namespaces = await NetNs.find(new RegExp(`^fl-dev${pid}-`));
  const folder = Deno.env.get("TMPDIR") ?? "/tmp";
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name);
  return [
    ...namespaces.map(({ name }) => name),
    ...files.filter((name) => name.startsWith(`flanneld-dev${pid}-`)),
  ];
}

Deno.test("dev --once shows leases, pings and copies, and leaves nothing behind", async () => {
  await using run = new Dev(["--once", "--nodes=3"]);
  const { code } = await run.process.status;
  const { text } = run;
  assert.equal(code, 0, text);
  assert.match(text, /ok +3 agents are ready/);
  assert.match(text, /node3 +192\.168\.77\.13 +10\.1\.\d+\.0\/24 +10\.1\.\d+\.2 +1450/);
  assert.equal(text.match(/ok +ping node\d to .* on node\d: [\d.]+ ms/g)?.length, 3, text);
  assert.equal(text.match(/ok +copy node\d to .*bit\/s, intact/g)?.length, 3, text);
  assert.deepEqual(await traces(run.process.pid), []);
});

Deno.test("dev stays up with a live view, and a second Ctrl-C does not disturb its end", async () => {
  await using run = new Dev(["--backend=host-gw"]);
  await run.process.waitForLine(
    /node1 ready, lease .*, peers 1, .* ping [\d.]+ ms \| node2/,
    LIMIT,
  );
  // The commands to try are for node1, as the view calls it.
  const [, file] = /^ *cat (\S+)$/m.exec(run.text) ?? [];
  assert.match(file, /\/node1\/subnet\.env$/);
  assert.match(await Deno.readTextFile(file), /^FLANNEL_SUBNET=/m);
  assert.doesNotMatch(run.text, /node0/);
  assert.equal((await NetNs.find(new RegExp(`^fl-dev${run.process.pid}-`))).length, 6);
  run.process.kill("SIGINT");
  await run.process.waitForLine(/Cleaning up/);
  run.process.kill("SIGINT");
  run.process.kill("SIGTERM");
  assert.equal((await run.process.status).code, 0, run.text);
  assert.deepEqual(await traces(run.process.pid), []);
});

Deno.test("dev stopped while it sets up leaves nothing behind", async () => {
  for (const line of [/hosts on this machine/, /etcd serves/, /agents are ready/]) {
    await using run = new Dev([]);
    await run.process.waitForLine(line, LIMIT);
    run.process.kill("SIGTERM");
    assert.equal((await run.process.status).code, 130, run.text);
    assert.deepEqual(await traces(run.process.pid), []);
  }
});

Deno.test("dev says which step failed, and leaves nothing behind", async () => {
  await using run = new Dev(["--once"], { FLANNELD_BIN: "false" });
  assert.equal((await run.process.status).code, 1);
  await run.process.waitForLine(/^FAIL +the agent ended with status 1/);
  assert.deepEqual(await traces(run.process.pid), []);
});

Deno.test("dev removes what a killed run left", async () => {
  await using killed = new Dev([]);
  await killed.process.waitForLine(/etcd serves/, LIMIT);
  killed.process.kill("SIGKILL");
  await killed.process.status;
  assert.notDeepEqual(await traces(killed.process.pid), []);
  await using run = new Dev(["--once"], { FLANNELD_BIN: "false" });
  await run.process.waitForLine(/Removed \d+ network namespaces of a run that was killed/, LIMIT);
  await run.process.status;
  assert.deepEqual(await traces(killed.process.pid), []);
});

Deno.test("dev refuses a bad flag in one line", async () => {
  await using run = new Dev(["--nodes=9"]);
  assert.equal((await run.process.status).code, 2);
  assert.equal(run.process.lines.length, 1);
  assert.match(run.process.lines[0], /--nodes.*2 to 8/);
});
