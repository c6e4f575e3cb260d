/**
 * What a config, a runtime or whoever writes into the plugin's folders could give the CNI plugin to
 * make it run other programs, wait for ever, or leave devices behind that nobody knows of.
 */
import assert from "node:assert/strict";
import { BINARY } from "../../tools/runtime.ts";
import { exists } from "../../tools/process.ts";
import { type Answer, CniHost, DEBIAN_PLUGINS } from "../../testbed/cni.ts";
import { exec, NetNs, run, waitFor } from "../../testbed/netns.ts";

const PROGRAM = Deno.env.get("FLANNELD_BIN") || BINARY;
const SUBNET_FILE = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\n" +
  "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/** Milliseconds within which each call has to answer, on a busy machine. */
const LIMIT = 20_000;

interface Setup {
  host: CniHost;
  pod: NetNs;
  folder: string;
}

function cniTest(name: string, plugins: string[], body: (setup: Setup) => Promise<void>): void {
  Deno.test(`attack: ${name}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "flanneld-attack-" });
    try {
      await using ns = await NetNs.create("attack");
      await using pod = await NetNs.create("attack-pod");
      const subnetFile = `${folder}/subnet.env`;
      await Deno.writeTextFile(subnetFile, SUBNET_FILE);
      await using host = await CniHost.create(ns, { folder, subnetFile, plugins });
      await body({ host, pod, folder });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

/** What `work` gives, within the limit. */
async function soon<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${LIMIT} ms`)), LIMIT);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** One that hangs is ended with its namespace. */
function call(host: CniHost, command: string, config: unknown, env: Record<string, string>) {
  return soon(host.call(command, config, env));
}

function assertError({ code, answer }: Answer, number: number, message: RegExp): void {
  assert.equal(code, 1, JSON.stringify(answer));
  assert.equal(answer.code, number, JSON.stringify(answer));
  assert.match(String(answer.msg), message);
}

cniTest(
  "plugin names that lead out of CNI_PATH",
  [DEBIAN_PLUGINS],
  async ({ host, pod, folder }) => {
    const evil = `#!/bin/sh\ntouch ${folder}/ran\necho '{}'\n`;
    await Deno.writeTextFile(`${folder}/evil.sh`, evil, { mode: 0o755 });
    // In both folders of CNI_PATH this name is the script's.
    await Deno.mkdir(`${folder}/cni/bin/sub`);
    const names = ["../evil.sh", "../../evil.sh", `${folder}/evil.sh`, "sub/../../../evil.sh"];
    const up = `../../../../..${folder}/evil.sh`;
    const env = host.container("a", pod);
    const refused = async (part: Record<string, unknown>) => {
      const answer = await call(host, "ADD", host.config("1.0.0", part), env);
      assertError(answer, 7, /type .* (is not a plugin's name|would call this plugin again)$/);
    };
    for (const type of [...names, up, "..", "", "flannel"]) {
      await refused({ ipam: { type } });
      await refused({ delegate: { type } });
    }
    await refused({ delegate: { type: "bridge", plugins: [{ type: up }] } });
    await refused({ runtimeConfig: { ipam: { type: up } } });
    for (const command of ["DEL", "CHECK"]) {
      await call(host, command, host.config("1.0.0", { ipam: { type: up } }), env);
    }
    // As a former ADD could have saved it.
    await Deno.mkdir(host.dataDir, { recursive: true });
    const saved = { type: "bridge", name: host.network, ipam: { type: up } };
    await Deno.writeTextFile(`${host.dataDir}/a`, JSON.stringify(saved));
    assert.equal((await call(host, "DEL", host.config("1.0.0"), env)).code, 0);
    assert.ok(!exists(`${folder}/ran`), "the script ran");
  },
);

for (const [name, plugins] of [["Debian's", [DEBIAN_PLUGINS]], ["our own", []]] as const) {
  cniTest(`60 ADD and DEL of one container at once, by ${name} bridge`, [...plugins], async (s) => {
    const { host, pod } = s;
    const env = host.container("same", pod);
    const input = `${host.folder}/input`;
    await Deno.writeTextFile(input, JSON.stringify(host.config("1.0.0")));
    // One shell starts them all, so that they are at it together.
    const script = `for n in $(seq 30); do
        CNI_COMMAND=ADD ${host.program} < ${input} > /dev/null 2>&1 &
        CNI_COMMAND=DEL ${host.program} < ${input} > /dev/null 2>&1 &
      done; wait`;
    const all = { CNI_PATH: host.path, ...env };
    const variables = Object.entries(all).map(([name, value]) => `${name}=${value}`);
    await host.ns.run("env", ...variables, "sh", "-c", script);
    // Whoever was last, what is there is known, and goes by it.
    const veths = async () => (await host.ns.run("ip", "-o", "link")).match(/veth/g)?.length ?? 0;
    const known = exists(`${host.dataDir}/same`);
    assert.equal(await veths(), known ? 1 : 0);
    assert.equal((await call(host, "DEL", host.config("1.0.0"), env)).code, 0);
    assert.deepEqual(await host.leftovers(), []);
    assert.notEqual((await pod.exec("ip", "link", "show", "eth0")).code, 0);
  });
}

cniTest("a container whose former call still runs", [], async ({ host, pod }) => {
  const env = host.container("busy", pod);
  await Deno.mkdir(host.dataDir, { recursive: true });
  const holder = new Deno.Command("flock", {
    args: [`${host.dataDir}/.busy.lock`, "sleep", "2"],
  }).spawn();
  try {
    const started = performance.now();
    assert.equal((await call(host, "DEL", host.config("1.0.0"), env)).code, 0);
    assert.ok(performance.now() - started > 1_000, "DEL did not wait");
  } finally {
    await holder.status;
  }
  // A pipe under the lock's name.
  await run("mkfifo", [`${host.dataDir}/.busy.lock`]);
  const answer = await call(host, "ADD", host.config("1.0.0"), env);
  assertError(answer, 5, /busy\.lock: it is not a regular file/);
});

for (const [name, plugins] of [["Debian's", [DEBIAN_PLUGINS]], ["our own", []]] as const) {
  cniTest(`a CNI_NETNS that is not a namespace, by ${name} bridge`, [...plugins], async (setup) => {
    const { host, pod, folder } = setup;
    const good = host.container("a", pod);
    await run("mkfifo", [`${folder}/fifo`]);
    await Deno.writeTextFile(`${folder}/file`, "");
    const config = host.config("1.0.0");
    const paths = [`${folder}/fifo`, `${folder}/file`, folder, "/dev/zero", "/proc/self/mem"];
    for (const CNI_NETNS of paths) {
      const env = { ...good, CNI_NETNS };
      const problem = /^CNI_NETNS ".*" is not a network namespace$/;
      assertError(await call(host, "ADD", config, env), 4, problem);
      assert.equal((await call(host, "DEL", config, env)).code, 0);
    }
    // A link to a process's namespace will do.
    await using other = pod.spawn("sleep", ["60"]);
    await waitFor(async () => await Deno.readTextFile(`/proc/${other.pid}/comm`) === "sleep\n", {
      limitMs: 10_000,
      what: "a process inside",
    });
    await Deno.symlink(`/proc/${other.pid}/ns/net`, `${folder}/link`);
    const linked = { ...good, CNI_NETNS: `${folder}/link` };
    assert.equal((await call(host, "ADD", config, linked)).code, 0);
    assert.equal((await call(host, "DEL", config, linked)).code, 0);
    const pipe = await call(host, "CHECK", config, { ...good, CNI_NETNS: `${folder}/fifo` });
    assertError(pipe, 4, /is not a network namespace$/);
    // DEL of a container that is there removes it all the same.
    for (const CNI_NETNS of [`${folder}/fifo`, `${folder}/file`]) {
      assert.equal((await call(host, "ADD", config, good)).code, 0);
      assert.equal((await call(host, "DEL", config, { ...good, CNI_NETNS })).code, 0, CNI_NETNS);
      assert.ok(!exists(`${host.dataDir}/a`));
      await pod.exec("ip", "link", "del", "eth0");
    }
    assert.deepEqual(await host.leftovers(), []);
  });
}

cniTest("pipes, devices and huge files in place of the plugin's files", [], async (setup) => {
  const { host, pod, folder } = setup;
  const env = host.container("a", pod);
  await run("mkfifo", [`${folder}/fifo`]);
  await Deno.writeTextFile(`${folder}/huge`, SUBNET_FILE);
  await Deno.truncate(`${folder}/huge`, 4e9);
  for (const subnetFile of [`${folder}/fifo`, `${folder}/huge`, "/dev/zero", folder]) {
    const config = host.config("1.1.0", { subnetFile });
    for (const command of ["ADD", "STATUS"]) {
      const { code, answer } = await call(host, command, config, env);
      assert.equal(code, 1);
      assert.match(String(answer.msg), /is not a regular file|more than 65536 bytes/);
    }
    assert.equal((await call(host, "DEL", config, env)).code, 0);
    const opts = ["10", PROGRAM, "docker-opts", "-f", subnetFile, "-d", `${folder}/out`];
    const { code, stderr } = await exec("timeout", opts);
    assert.equal(code, 1, stderr);
    assert.match(
      stderr,
      /^flanneld: .*(is not a regular file|a directory, not a file|more than 65536 bytes)\n$/,
    );
  }
  // The files that ADD left, and those of the addresses.
  await Deno.mkdir(host.dataDir, { recursive: true });
  await run("mkfifo", [`${host.dataDir}/a`]);
  assert.equal((await call(host, "DEL", host.config("1.0.0"), env)).code, 0);
  assert.ok(!exists(`${host.dataDir}/a`));
  const ipam = `${host.ipamDir}/${host.network}`;
  await Deno.mkdir(ipam, { recursive: true });
  await run("mkfifo", [`${ipam}/10.1.40.2`, `${ipam}/last_reserved_ip.0`]);
  await run("mkfifo", [`${ipam}/.reserving`]);
  const added = await call(host, "ADD", host.config("1.0.0"), env);
  assert.equal(added.code, 0, JSON.stringify(added.answer));
  assert.match(JSON.stringify(added.answer), /10\.1\.40\.3\/24/);
  assert.equal((await call(host, "DEL", host.config("1.0.0"), env)).code, 0);
  await Deno.remove(`${ipam}/lock`);
  await run("mkfifo", [`${ipam}/lock`]);
  assertError(await call(host, "ADD", host.config("1.0.0"), env), 5, /lock: it is not a regular/);
});

cniTest("a network config that is huge, deep, or never ends", [], async ({ host, pod }) => {
  const env = host.container("a", pod);
  const deep = `{"cniVersion":"1.0.0","name":"n","delegate":${'{"a":'.repeat(50_000)}1${
    "}".repeat(50_001)
  }`;
  const { code, answer } = await call(host, "ADD", deep, env);
  assert.equal(code, 1);
  assert.ok(typeof answer.msg === "string" && answer.msg.length < 1_000);
  assertError(await call(host, "ADD", " ".repeat(5 << 20), env), 5, /more than 4194304 bytes$/);
  const variables = Object.entries({ CNI_COMMAND: "VERSION", CNI_PATH: host.path });
  const started = performance.now();
  const stuck = await host.ns.exec(
    "env",
    ...variables.map(([name, value]) => `${name}=${value}`),
    ...["bash", "-c", `exec ${host.program} < <(exec sleep 25 2> /dev/null)`],
  );
  assert.match(stuck.stdout, /standard input did not end within 15 s/);
  assert.ok(performance.now() - started < 24_000);
});

cniTest("names in the environment that lead elsewhere", [], async ({ host, pod, folder }) => {
  const good = host.container("a", pod);
  const config = host.config("1.0.0");
  const bad = ["../a", "/a", "..", ".a", "a\nb", "a b", "x".repeat(240), "a:b"];
  const refused = async (command: string, env: Record<string, string>) => {
    const answer = await call(host, command, config, { ...good, ...env });
    assertError(answer, 4, new RegExp(`^${Object.keys(env)[0]} `));
  };
  for (const CNI_CONTAINERID of bad) await refused("ADD", { CNI_CONTAINERID });
  for (const CNI_IFNAME of ["../a", "..", "a b", "a\nb", "eth%d", "x".repeat(16), "a:b"]) {
    await refused("ADD", { CNI_IFNAME });
  }
  for (const command of ["DEL", "CHECK"]) {
    await refused(command, { CNI_CONTAINERID: "../a" });
    await refused(command, { CNI_IFNAME: "../a" });
  }
  const longest = { ...good, CNI_CONTAINERID: "x".repeat(239), CNI_IFNAME: "x".repeat(15) };
  assert.equal((await call(host, "ADD", config, longest)).code, 0);
  const second = { ...longest, CNI_IFNAME: "y".repeat(15) };
  assert.equal((await call(host, "ADD", config, second)).code, 0);
  for (const env of [second, longest]) assert.equal((await call(host, "DEL", config, env)).code, 0);
  for (const name of ["../x", "", "x\ny"]) {
    assertError(await call(host, "ADD", { ...config, name }, good), 7, /^name /);
  }
  assert.deepEqual(await host.leftovers(), []);
  assert.ok(!exists(`${folder}/a`));
});
