/** etcd behind TLS and users: who gets in, and what is said to who does not. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import { certificate, certificateAuthority } from "../../testbed/certificates.ts";
import type { Process } from "../../testbed/netns.ts";
import { flanneldCommand } from "../../testbed/node.ts";
import {
  eventually,
  matching,
  peersOf,
  ping,
  storedLeases,
  terminate,
  waitForwarding,
} from "./support.ts";

const PASSWORD = "s3cret-Of-The-Store";

Deno.test("TLS with client certificates and a user", async () => {
  await using cluster = await Cluster.create({
    label: "access",
    etcd: { tls: true, auth: { username: "flannel", password: PASSWORD } },
  });
  // At the highest level of detail the password must not show, either.
  const agents = await cluster.startAgents({ args: ["-v=4"] });
  await waitForwarding(cluster, "vxlan");
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  // The token that a login gave does not outlive etcd.
  await cluster.etcd.stop();
  await cluster.etcd.restart();
  const [one, two] = cluster.nodes;
  await terminate(agents[1]);
  two.startAgent();
  await two.waitReady();
  assert.equal((await storedLeases(cluster)).length, 2);
  await waitForwarding(cluster, "vxlan");
  await terminate(one.agent!);

  // Each of these waits, says why once, and works on once it may.
  const foreign = await certificateAuthority(cluster.etcd.folder, "foreign");
  const stranger = await certificate(cluster.etcd.folder, "stranger", foreign);
  for (
    const { args, env, line } of [
      { args: [`--etcd-cafile=${foreign.ca}`], line: /certificate/i },
      {
        args: [`--etcd-certfile=${stranger.cert}`, `--etcd-keyfile=${stranger.key}`],
        line: /certificate|TLS|handshake|closed|reset|ECONN/i,
      },
      { args: ["--etcd-password=wrong-one"], line: /password|authentication|credentials/i },
      { args: ["--etcd-username=nobody"], line: /password|authentication|user/i },
      { args: [], env: { FLANNELD_V: "4" }, line: /Running backend/ },
    ]
  ) {
    const agent = one.startAgent({ args, env });
    await agent.waitForLine(line, 20_000);
    assert.equal(agent.ended, false, `it waits: ${agent.lines.join("\n")}`);
    assertTidy(agent);
    await terminate(agent);
  }
  for (const agent of agents) assertTidy(agent);
});

Deno.test("etcd's certificates stay readable where AWS's variables name the same files", async () => {
  await using cluster = await Cluster.create({ label: "shared", etcd: { tls: true } });
  const { ca = "", cert = "", key = "" } = cluster.etcd.tls ?? {};
  const [node] = cluster.nodes;
  const agent = node.startAgent({
    env: {
      AWS_CA_BUNDLE: ca,
      SSL_CERT_FILE: `${ca.replace(/\/([^/]*)$/, "/./$1")}`,
      AWS_CONFIG_FILE: cert,
      AWS_WEB_IDENTITY_TOKEN_FILE: key,
    },
  });
  await node.waitReady();
  await cluster.etcd.stop();
  await agent.waitForLine(/^W.*etcd/, 20_000);
  await cluster.etcd.restart();
  cluster.node(1).startAgent();
  await eventually(
    async () => assert.equal((await peersOf(node)).peers.length, 1),
    { limitMs: 60_000 },
  );
  assert.ok(!agent.lines.some((line) => /ermi(tted|ssion)|read access/.test(line)));
});

Deno.test("without a user where one is needed the agent says so and waits", async () => {
  await using cluster = await Cluster.create({
    label: "nouser",
    nodes: 1,
    etcd: { auth: { username: "flannel", password: PASSWORD } },
  });
  const [node] = cluster.nodes;
  // The flags without the user's.
  const [program, ...args] = flanneldCommand();
  args.push(`--subnet-file=${node.subnetFile}`, `--etcd-endpoints=${cluster.etcd.endpoint}`);
  const agent = node.ns.spawn(program, args);
  await agent.waitForLine(/^[WE].*(user|permission|auth)/i, 20_000);
  assert.equal(agent.ended, false);
  assertTidy(agent);
});

/** No password, no stack trace, nothing unhandled, no flood. */
function assertTidy(agent: Process): void {
  const log = agent.lines.join("\n");
  for (const secret of [PASSWORD, "wrong-one"]) assert.ok(!log.includes(secret), log);
  assert.doesNotMatch(log, /Uncaught|unhandled|^\s+at /m);
  assert.ok(matching(agent, /^[WE]\d{4}/).length <= 4, log);
}
