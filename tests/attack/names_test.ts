/** Names and files that another user of the host takes first: they are in nobody's way. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import { waitFor } from "../../testbed/netns.ts";
import { binaryTest, eventually, terminate } from "../e2e/support.ts";
import { PrivateRun } from "./support.ts";

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

binaryTest(
  "abstract sockets that others have taken keep no agent from starting",
  async (binary) => {
    await using cluster = await Cluster.create({ label: "atk-names", nodes: 1 });
    const [node] = cluster.nodes;
    await using own = await PrivateRun.create(node);
    const target = `${node.folder}/notify.sock`;
    const program = `const { pid } = Deno;
    const taken = ["lock", "status", ...Array.from({ length: 4000 }, (_, index) => "notify/" + (pid + index))];
    for (const name of taken) {
      const path = "\\0flanneld/" + name;
      if (name.startsWith("notify")) Deno.listenDatagram({ transport: "unixpacket", path });
      else Deno.listen({ transport: "unix", path });
    }
    const manager = Deno.listenDatagram({ transport: "unixpacket", path: ${
      JSON.stringify(target)
    } });
    console.log("taken");
    for await (const [data] of manager) console.log("got " + new TextDecoder().decode(data));`;
    await using taker = node.ns.spawn(Deno.execPath(), ["eval", "--unstable-net", program]);
    await taker.waitForLine(/^taken$/, 20_000);
    const agent = await own.startAgent(binary, { NOTIFY_SOCKET: target });
    await taker.waitForLine(/^got READY=1$/, 20_000);
    const { code, stdout, stderr } = await own.peers(binary);
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).backend, "vxlan");
    assert.equal((await terminate(agent)).code, 0);
    await taker.waitForLine(/^got STOPPING=1$/);
  },
);

binaryTest(
  "what was planted in a folder open to all is replaced, and the folder is closed",
  async (binary) => {
    await using cluster = await Cluster.create({ label: "atk-planted", nodes: 1 });
    const [node] = cluster.nodes;
    await using own = await PrivateRun.create(node);
    const file = `/run/flannel/flanneld-${await own.namespace()}`;
    const victim = `${node.folder}/victim`;
    await Deno.writeTextFile(victim, "not ours");
    const kinds: [string, string][] = [
      ["a symbolic link", `ln -s ${victim} ${file}.lock; ln -s ${victim} ${file}.sock`],
      [
        "a link to nowhere",
        `ln -s ${node.folder}/new ${file}.lock; ln -s ${node.folder}/new ${file}.sock`,
      ],
      ["FIFOs", `mkfifo -m 666 ${file}.lock ${file}.sock`],
      [
        "a lock that is held",
        `${NOBODY.join(" ")} touch ${file}.lock
      ${NOBODY.join(" ")} flock -n ${file}.lock sleep 60 >/dev/null 2>&1 & sleep 0.3`,
      ],
      ["hard links", `touch /run/flannel/other; ln /run/flannel/other ${file}.lock`],
    ];
    for (const [what, plant] of kinds) {
      await own.sh(`chmod 777 /run/flannel; ${plant}`);
      const agent = await own.startAgent(binary);
      await agent.waitForLine(/Running backend/, 20_000);
      await agent.waitForLine(/^W.*\/run\/flannel was writable by other users/);
      const modes = await own.sh(`stat -c '%F %a %u' /run/flannel ${file}.lock ${file}.sock`);
      assert.equal(
        modes,
        "directory 755 0\nregular file 600 0\nsocket 600 0\n",
        what,
      );
      assert.equal((await own.peers(binary)).code, 0, what);
      assert.equal((await terminate(agent)).code, 0);
      // It takes its files along.
      assert.equal(await own.sh(`ls ${file}.* 2>/dev/null || true`), "", what);
    }
    assert.equal(await Deno.readTextFile(victim), "not ours");
    await assert.rejects(Deno.lstat(`${node.folder}/new`), Deno.errors.NotFound);
  },
);

binaryTest("a folder that is another user's is refused in one line", async (binary) => {
  await using cluster = await Cluster.create({ label: "atk-folder", nodes: 1 });
  const [node] = cluster.nodes;
  await using own = await PrivateRun.create(node);
  await own.sh("chown 65534 /run/flannel");
  const agent = await own.startAgent(binary);
  await waitFor(() => agent.ended, { limitMs: 20_000, what: "the agent's end" });
  assert.deepEqual(agent.lines, [
    "flanneld: cannot take this node's lock: /run/flannel belongs to user 65534: run chown -h 0 " +
    "/run/flannel",
  ]);
  assert.equal((await agent.status).code, 1);
});

binaryTest(
  "one agent per network namespace, however the last one ended; others may not ask it",
  async (binary) => {
    await using cluster = await Cluster.create({ label: "atk-lock" });
    const [node, other] = cluster.nodes;
    await using own = await PrivateRun.create(node);
    const first = await own.startAgent(binary);
    await first.waitForLine(/Running backend/, 20_000);
    // Another network namespace, the same folder.
    const start = `${other.folder}/start`;
    await Deno.writeTextFile(start, `#!/bin/sh\nexec ${own.within(binary).join(" ")} "$@"\n`, {
      mode: 0o755,
    });
    other.startAgent({ binary: start });
    await other.waitReady();
    const second = await own.startAgent(binary);
    await waitFor(() => second.ended, { limitMs: 20_000, what: "the second agent's end" });
    assert.deepEqual(second.lines, [
      "flanneld: another flanneld runs on this node (in this network namespace, process " +
      `${first.pid}): stop it first`,
    ]);
    await Deno.chmod(`${node.folder}/..`, 0o711);
    const cache = `${node.folder}/cache`;
    await Deno.mkdir(cache);
    await Deno.chown(cache, 65534, 65534);
    const refused = await own.peers(binary, ...NOBODY, "env", `FLANNELD_CACHE_DIR=${cache}`);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      /^flanneld: cannot ask flanneld for its peers: only root and the user that flanneld runs as may query it [^\n]*\n$/,
    );
    first.kill("SIGKILL");
    await first.status;
    const gone = await own.peers(binary);
    assert.match(gone.stderr, /^flanneld: no flanneld runs on this node [^\n]*\n$/);
    const third = await own.startAgent(binary);
    await third.waitForLine(/Running backend/, 20_000);
    await eventually(async () => assert.equal((await own.peers(binary)).code, 0));
  },
);

binaryTest("whoever answers in the agent's place is not believed", async (binary) => {
  await using cluster = await Cluster.create({ label: "atk-reply", nodes: 1 });
  const [node] = cluster.nodes;
  await using own = await PrivateRun.create(node);
  const path = `/run/flannel/flanneld-${await own.namespace()}.sock`;
  const replies: [string, RegExp, string][] = [
    [
      "JSON of something else",
      /is not a list of peers: .*; is it of another version\?$/,
      `write('{"a":1}')`,
    ],
    ["no JSON", /is not JSON: /, `write("<html>\\x1b[2J")`],
    ["no text", /is not UTF-8$/, `write(new Uint8Array([0xff, 0xfe]))`],
    [
      "no end",
      /the answer is longer than \d+ bytes$/,
      `while (true) await write("x".repeat(1 << 20))`,
    ],
    ["nothing", /timeout after 5 s$/, `await new Promise(() => {})`],
    [
      "a byte a second",
      /timeout after 5 s$/,
      `while (true) {
      await write(" "); await new Promise((done) => setTimeout(done, 1000)); }`,
    ],
  ];
  for (const [what, expected, body] of replies) {
    const program = `try { Deno.removeSync(${JSON.stringify(path)}); } catch {}
      const listener = Deno.listen({ transport: "unix", path: ${JSON.stringify(path)} });
      console.log("listening");
      for await (const socket of listener) (async () => {
        const write = async (data) => {
          const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
          for (let at = 0; at < bytes.length;) at += await socket.write(bytes.subarray(at));
        };
        ${body.replace(/write\(/g, "await write(").replaceAll("await await", "await")};
        socket.close();
      })().catch(() => {});`;
    const [command, ...args] = own.within(Deno.execPath(), "eval", "--no-config", program);
    await using impostor = node.ns.spawn(command, args);
    await impostor.waitForLine(/^listening$/, 20_000);
    const { code, stdout, stderr } = await own.peers(binary);
    assert.deepEqual([code, stdout], [1, ""], what);
    assert.match(stderr, /^flanneld: [\x20-\x7e]*\n$/, what);
    assert.match(stderr.trimEnd(), expected, what);
  }
  await own.sh("chmod 777 /run/flannel");
  const { stderr } = await own.peers(binary);
  assert.match(
    stderr,
    /^flanneld: .*\/run\/flannel can be written to by other users: run chmod go-w/,
  );
});
