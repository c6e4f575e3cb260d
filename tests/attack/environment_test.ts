/**
 * Variables in the caller's environment that would have the built binary load code, trust other
 * authorities, write keys or logs elsewhere: none reaches the runtime, nor what it starts.
 */
import assert from "node:assert/strict";
import { BINARY } from "../../tools/runtime.ts";
import { exists } from "../../tools/process.ts";
import { Etcd, freePort } from "../../testbed/etcd.ts";
import { run, waitFor } from "../../testbed/netns.ts";

const PROGRAM = Deno.env.get("FLANNELD_BIN") || BINARY;

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "flanneld-attack-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function start(args: string[], env: Record<string, string>, program = PROGRAM, input = "") {
  const child = new Deno.Command(program, {
    ...{ args, env, clearEnv: true },
    ...{ stdin: "piped", stdout: "piped", stderr: "piped" },
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).then(() => writer.close()).catch(() => {});
  const { code, stdout, stderr } = await child.output();
  return { code, out: text(stdout), err: text(stderr) };
}

/** A library that leaves a mark in the folder where it is loaded. */
async function preload(folder: string): Promise<Record<string, string>> {
  const [source, library] = [`${folder}/p.c`, `${folder}/p.so`];
  await Deno.writeTextFile(
    source,
    `#include <fcntl.h>
     unsigned la_version(unsigned v) { open("${folder}/audit", O_CREAT, 0600); return v; }
     __attribute__((constructor)) static void mark(void) { open("${folder}/mark", O_CREAT, 0600); }`,
  );
  await run("cc", ["-shared", "-fPIC", "-w", "-o", library, source]);
  return { LD_PRELOAD: library, LD_AUDIT: library };
}

Deno.test("attack: a library by LD_PRELOAD and LD_AUDIT", () =>
  withFolder(async (folder) => {
    const env = await preload(folder);
    const { code, err } = await start(["--version"], env);
    assert.deepEqual([code, err], [0, ""]);
    // The library does work: it marks another program's start.
    assert.ok(!exists(`${folder}/mark`) && !exists(`${folder}/audit`));
    await new Deno.Command("/bin/true", { env }).output();
    assert.ok(exists(`${folder}/mark`) && exists(`${folder}/audit`));
  }));

Deno.test("attack: an authority, and a file for TLS keys", () =>
  withFolder(async (folder) => {
    await using etcd = await Etcd.start({ tls: true });
    const { ca, cert, key } = etcd.tls!;
    const args = ["config", "get", "--etcd-endpoints", etcd.endpoint];
    const client = ["--etcd-certfile", cert, "--etcd-keyfile", key];
    await etcd.ctl("put", "/coreos.com/network/config", '{"Network":"10.1.0.0/16"}');
    const names = [
      ...["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "DENO_CERT", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"],
      ...["REQUESTS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
    ];
    const env = {
      ...Object.fromEntries(names.map((name) => [name, ca])),
      DENO_TLS_CA_STORE: "system",
      DENO_V8_FLAGS: "--prof",
      NODE_OPTIONS: "--use-openssl-ca --tls-keylog=" + folder + "/keylog",
      NODE_TLS_REJECT_UNAUTHORIZED: "0",
      SSLKEYLOGFILE: `${folder}/keys`,
      GRPC_TRACE: "all",
      GRPC_VERBOSITY: "DEBUG",
      NODE_DEBUG: "tls,http2",
      RUST_LOG: "trace",
    };
    const good = await start([...args, ...client, "--etcd-cafile", ca], env);
    assert.match(good.out, /10\.1\.0\.0\/16/, good.err);
    assert.equal(good.err, "");
    assert.ok(!exists(`${folder}/keys`), "TLS keys were written");
    const bad = await start([...args, ...client], env);
    assert.notEqual(bad.code, 0, "an authority of the environment's was trusted");
    assert.match(bad.err, /certificate|issuer/i);
  }));

Deno.test("attack: the agent's process has only variables that it knows", () =>
  withFolder(async (folder) => {
    const unknown = ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "MALLOC_CHECK_", "X"];
    unknown.push("NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "SSLKEYLOGFILE", "DENO_CERT", "RUST_LOG");
    unknown.push("UV_THREADPOOL_SIZE", "TMPDIR", "ALL_PROXY", "_FLANNELD_SECRETS", "BASH_FUNC_a%%");
    const known = { PATH: "bin::/usr/sbin:.:/usr/bin", AWS_REGION: "r", FLANNELD_V: "1" };
    const child = new Deno.Command(PROGRAM, {
      args: [`--etcd-endpoints=http://127.0.0.1:${freePort()}`, `--subnet-file=${folder}/s`],
      env: { ...Object.fromEntries(unknown.map((name) => [name, `${folder}/x`])), ...known },
      ...{ clearEnv: true, stdout: "null", stderr: "null" },
    }).spawn();
    try {
      const environ = await waitFor(() => {
        const all = Deno.readTextFileSync(`/proc/${child.pid}/environ`);
        return Promise.resolve(all.includes("DENO_DIR=") ? all : undefined);
      }, { limitMs: 20_000, what: "the runtime", intervalMs: 20 });
      const found = new Map(
        environ.split("\0").map((line) => {
          const at = line.indexOf("=");
          return [line.slice(0, at), line.slice(at + 1)];
        }),
      );
      assert.deepEqual(unknown.filter((name) => found.has(name)), []);
      assert.deepEqual([...found.keys()].filter((name) => /CALLER/.test(name)), []);
      assert.equal(found.get("PATH"), "/usr/sbin:/usr/bin");
      assert.equal(found.get("AWS_REGION"), "r");
    } finally {
      child.kill("SIGKILL");
      await child.status;
    }
  }));

Deno.test("attack: a CNI delegate gets the caller's environment, but nothing that loads code", () =>
  withFolder(async (folder) => {
    const bin = `${folder}/bin`;
    await Deno.mkdir(bin);
    await Deno.symlink(await Deno.realPath(PROGRAM), `${bin}/flannel`);
    const delegate = `#!/bin/sh\ncat > /dev/null; /usr/bin/env > ${folder}/env\necho '{}'\n`;
    await Deno.writeTextFile(`${bin}/other`, delegate, { mode: 0o755 });
    const subnetFile = `${folder}/subnet.env`;
    await Deno.writeTextFile(
      subnetFile,
      "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\nFLANNEL_MTU=1450\n" +
        "FLANNEL_IPMASQ=true\n",
    );
    const config = JSON.stringify({
      ...{ cniVersion: "1.0.0", name: "n", type: "flannel", subnetFile },
      ...{ dataDir: `${folder}/data`, delegate: { type: "other" } },
    });
    const env = {
      ...await preload(folder),
      ...{ CNI_COMMAND: "ADD", CNI_CONTAINERID: "c", CNI_IFNAME: "eth0", CNI_ARGS: "A=1" },
      ...{ CNI_NETNS: "/proc/self/ns/net", CNI_PATH: bin, PATH: "/usr/bin:/bin" },
      ...{ KUBECONFIG: "/k", NODE_NAME: "n1", SSLKEYLOGFILE: `${folder}/keys`, DENO_CERT: "/c" },
    };
    const { code, out, err } = await start([], env, `${bin}/flannel`, config);
    assert.deepEqual([code, out.trim(), err], [0, "{}", ""]);
    const lines = (await Deno.readTextFile(`${folder}/env`)).trim().split("\n");
    const names = lines.map((line) => line.split("=")[0]);
    for (const [name, value] of Object.entries(env)) {
      const kept = !/^(LD_|SSLKEY|DENO_)/.test(name);
      assert.equal(lines.includes(`${name}=${value}`), kept, name);
    }
    assert.deepEqual(names.filter((name) => /^(_FLANNELD|DENO)_/.test(name)), []);
    assert.ok(!exists(`${folder}/mark`) && !exists(`${folder}/audit`));
  }));

Deno.test("attack: docker-opts looks a variable up by the name that it is given, and no more", () =>
  withFolder(async (folder) => {
    const [file, output] = [`${folder}/subnet.env`, `${folder}/out`];
    await Deno.writeTextFile(file, "FLANNEL_SUBNET=10.9.9.1/24\nFLANNEL_MTU=1450\n");
    const env = await preload(folder);
    const look = async (key: string) => {
      const args = ["docker-opts", "-f", file, "-d", output, "-c", "-k", key];
      const { code, err } = await start(args, {
        ...env,
        MINE: "--debug",
        FLANNELD_K: "LD_PRELOAD",
      });
      assert.deepEqual([code, err], [0, ""]);
      return await Deno.readTextFile(output);
    };
    assert.match(await look("MINE"), /^MINE="--debug {1,2}--bip=10\.9\.9\.1\/24/);
    assert.match(await look("LD_PRELOAD"), /^LD_PRELOAD=" --bip=/);
    assert.ok(!exists(`${folder}/mark`) && !exists(`${folder}/audit`));
  }));
