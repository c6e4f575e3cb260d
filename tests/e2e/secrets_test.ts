/** Passwords, keys and tokens stay where they belong. */
import assert from "node:assert/strict";
import { Cluster, type Node } from "../../testbed/cluster.ts";
import type { Process } from "../../testbed/netns.ts";
import { binaryTest, eventually, matching, runFlanneld } from "./support.ts";

const PASSWORD = "wachtwoord-7f3a";
const WARNING = /^W.*--etcd-password was passed as an argument/;
/** A token as etcd's simple provider makes it. */
const TOKEN = /\b[A-Za-z]{16}\.\d+\b/;

function cluster(label: string): Promise<Cluster> {
  const etcd = { tls: true, auth: { username: "flanneld", password: PASSWORD } };
  return Cluster.create({ label, nodes: 1, etcd, agentArgs: ["--v=10", "--iptables-resync=1"] });
}

/** Programs under the packet filter's names that first write down what they were given. */
async function recorders(node: Node): Promise<{ folder: string; record: string }> {
  const folder = `${node.folder}/recorders`;
  const record = `${node.folder}/record`;
  await Deno.mkdir(folder);
  for (const name of ["iptables-save", "iptables-restore"]) {
    await Deno.writeTextFile(
      `${folder}/${name}`,
      `#!/bin/sh\n{ env; echo "$0 $*"; } >> ${record}\nexec /usr/sbin/${name} "$@"\n`,
      { mode: 0o755 },
    );
  }
  return { folder, record };
}

/** All that the agent shows of itself. */
async function shown(node: Node, agent: Process, record: string): Promise<string> {
  const peers = await runFlanneld(node, "peers", "--json");
  assert.equal(peers.code, 0, peers.stderr);
  const metrics = await node.health("/metrics");
  assert.equal(metrics.status, 200);
  await eventually(async () => assert.match(await Deno.readTextFile(record), /iptables-save/));
  return [
    agent.lines.join("\n"),
    peers.stdout,
    metrics.body,
    (await node.health("/readyz")).body,
    await Deno.readTextFile(`/proc/${agent.pid}/cmdline`),
    await Deno.readTextFile(record),
    await Deno.readTextFile(node.subnetFile),
  ].join("\n");
}

async function assertHidden(node: Node, agent: Process, record: string): Promise<void> {
  await node.waitReady(60_000);
  const all = await shown(node, agent, record);
  const key = await Deno.readTextFile(node.cluster.etcd.tls!.key);
  const [, line] = key.split("\n");
  for (const secret of [PASSWORD, line]) {
    assert.ok(!all.includes(secret), `${secret} in:\n${all}`);
  }
  assert.doesNotMatch(agent.lines.join("\n"), TOKEN);
}

binaryTest("a password among the arguments is nowhere to be seen, and warned of", async () => {
  await using one = await cluster("secret-flag");
  const [node] = one.nodes;
  const { folder, record } = await recorders(node);
  const env = { PATH: `${folder}:${Deno.env.get("PATH")}`, GRPC_TRACE: "all" };
  const agent = node.startAgent({ env });
  await assertHidden(node, agent, record);
  assert.equal(matching(agent, WARNING).length, 1, agent.lines.join("\n"));
});

Deno.test("a password from a file, and what is warned of files that all can read", async () => {
  await using one = await cluster("secret-file");
  const [node] = one.nodes;
  const { folder, record } = await recorders(node);
  const path = `${node.folder}/password`;
  await Deno.writeTextFile(path, `${PASSWORD}\n`, { mode: 0o600 });
  await Deno.chmod(one.etcd.tls!.key, 0o644);
  // The cluster's own flag, which comes first, is overruled.
  const agent = node.startAgent({
    args: ["--etcd-password=", `--etcd-password-file=${path}`],
    env: { PATH: `${folder}:${Deno.env.get("PATH")}` },
  });
  await node.waitReady(60_000);
  assert.deepEqual(matching(agent, /^W.*was passed as an argument/).length, 1);
  assert.match(matching(agent, /^W.*--etcd-keyfile: every user/)[0], /chmod 600/);
  assert.deepEqual(matching(agent, /password-file: every user/), []);
  await eventually(async () => assert.match(await Deno.readTextFile(record), /iptables-save/));
  assert.doesNotMatch(await Deno.readTextFile(record), new RegExp(PASSWORD));
});

Deno.test("metrics are for the host itself, unless --healthz-ip says otherwise", async () => {
  await using one = await Cluster.create({ label: "metrics", nodes: 2 });
  const [a, b] = one.nodes;
  a.startAgent();
  b.startAgent({ args: ["--healthz-ip=0.0.0.0"] });
  await Promise.all([a.waitReady(), b.waitReady()]);
  const ask = async (from: Node, to: Node, path: string) => {
    const request = `exec 3<>/dev/tcp/${to.ipv4}/8081 && ` +
      `printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 cat <&3`;
    return (await from.ns.run("bash", "-c", request)).split("\r\n")[0];
  };
  assert.match(await ask(b, a, "/healthz"), / 200 /);
  assert.match(await ask(b, a, "/metrics"), / 403 /);
  assert.match(await ask(a, b, "/metrics"), / 200 /);
  assert.equal((await a.health("/metrics")).status, 200);
});
