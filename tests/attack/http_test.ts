/** The health server among clients that mean it ill: it answers the others, and the agent goes on. */
import assert from "node:assert/strict";
import { Cluster, configWithRoom, HEALTH_PORT, type Node } from "../../testbed/cluster.ts";
import { assertPrompt, writeLeases } from "./support.ts";
import { waitFor } from "../../testbed/netns.ts";
import { binaryTest, eventually, putLease, waitForwarding } from "../e2e/support.ts";
import type { Attack } from "./clients.ts";

const CLIENTS = new URL("clients.ts", import.meta.url).pathname;

/** Starts clients beside the agent. */
async function attack(node: Node, how: Omit<Attack, "port">) {
  const options: Attack = { port: HEALTH_PORT, ...how };
  const clients = node.ns.spawn(Deno.execPath(), [
    ...["run", "-A", "--no-check", CLIENTS],
    JSON.stringify(options),
  ]);
  await clients.waitForLine(/^sent$/, 20_000);
  return clients;
}

async function descriptors(pid: number): Promise<number> {
  return (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).length;
}

/** The first line that the server answers to each of these; empty where it closes without a word. */
async function answersTo(node: Node, requests: string[]): Promise<string[]> {
  const file = `${node.folder}/requests.json`;
  await Deno.writeTextFile(file, JSON.stringify(requests));
  const program = `import { connect } from "node:net";
    for (const request of JSON.parse(Deno.readTextFileSync(${JSON.stringify(file)}))) {
      const { promise, resolve } = Promise.withResolvers();
      const socket = connect(${HEALTH_PORT}, "127.0.0.1");
      let text = "";
      socket.on("data", (chunk) => text += chunk.toString("latin1"));
      socket.on("error", () => {});
      socket.on("close", resolve);
      socket.setTimeout(10_000, () => socket.destroy());
      socket.write(request, "latin1");
      await promise;
      console.log(text.split("\\r\\n", 1)[0]);
    }`;
  const { stdout } = await node.ns.exec(Deno.execPath(), "eval", "--no-config", program);
  return stdout.split("\n");
}

binaryTest("clients that hold connections keep nobody else out, and end nothing", async () => {
  await using cluster = await Cluster.create({ label: "atk-http", network: configWithRoom() });
  await cluster.startAgents();
  await waitForwarding(cluster, "vxlan");
  const [node] = cluster.nodes;
  const { pid } = node.agent!;
  const half = "GET /healthz HTTP/1.1\r\nHost: x\r\nA: ";
  const kinds: [string, Omit<Attack, "port">][] = [
    ["half a request", { count: 1_500, send: half, again: true }],
    ["not a byte", { count: 1_500, send: "", again: true }],
    ["many sources", { count: 1_500, send: half, again: true, sources: 300 }],
    ["a byte a second", { count: 300, send: half, trickle: { text: "b", everyMs: 1_000 } }],
    [
      "a body without end",
      {
        count: 300,
        send: "POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        trickle: { text: "5\r\nabcde\r\n", everyMs: 50 },
        again: true,
      },
    ],
    [
      "pipelined requests, answers not read",
      { count: 200, send: "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200), again: true },
    ],
    ["requests without end", {
      count: 50,
      send: "GET /readyz HTTP/1.0\r\n\r\n",
      again: true,
      reads: true,
    }],
  ];
  const lines = node.agent!.lines.length;
  for (const [what, how] of kinds) {
    await using clients = await attack(node, how);
    await assertPrompt(node, what);
    assert.ok(await descriptors(pid) < 300, `${what}: ${await descriptors(pid)} descriptors`);
    assert.equal(clients.ended, false);
  }
  // A peer that comes in the middle of it is carried as ever.
  await using _clients = await attack(node, kinds[0][1]);
  await putLease(cluster, "10.1.250.0-24", {
    PublicIP: "192.168.77.150",
    PublicIPv6: null,
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: "02:00:00:00:02:50" },
  });
  await eventually(
    async () => assert.match(await node.ns.run("ip", "route"), /10\.1\.250\.0\/24 via/),
    { limitMs: 2_000, what: "the new peer's route" },
  );
  assert.equal(node.agent!.ended, false);
  const others = node.agent!.lines.slice(lines).filter((line) =>
    !/ Peer \S+ .* appeared$/.test(line)
  );
  assert.deepEqual(others, [], "clients write no log");
});

binaryTest(
  "descriptors that run out are survived, as are connections that nobody lets in",
  async (binary) => {
    await using cluster = await Cluster.create({ label: "atk-files", nodes: 1 });
    const [node] = cluster.nodes;
    const start = `${node.folder}/start`;
    // The limit holds for good: the agent cannot raise it.
    await Deno.writeTextFile(start, `#!/bin/sh\nulimit -n 96\nexec ${binary} "$@"\n`, {
      mode: 0o755,
    });
    const agent = node.startAgent({ binary: start });
    await node.waitReady();
    await using clients = await attack(node, {
      count: 400,
      send: "GET /healthz HTTP/1.1\r\nA: ",
      again: true,
      sources: 40,
    });
    await eventually(async () => assert.ok(await descriptors(agent.pid) >= 90), {
      what: "descriptors to run out",
    });
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    assert.equal(agent.ended, false, agent.lines.join("\n"));
    await clients[Symbol.asyncDispose]();
    await eventually(() => assertPrompt(node, "afterwards"));
  },
);

binaryTest("the limit of open files is raised to what is allowed", async (binary) => {
  await using cluster = await Cluster.create({ label: "atk-limit", nodes: 1 });
  const [node] = cluster.nodes;
  const start = `${node.folder}/start`;
  const text = `#!/bin/sh\nulimit -Sn 64\nulimit -Hn 4000\nexec ${binary} "$@"\n`;
  await Deno.writeTextFile(start, text, { mode: 0o755 });
  const { pid } = node.startAgent({ binary: start });
  await node.waitReady();
  const limits = await Deno.readTextFile(`/proc/${pid}/limits`);
  assert.match(limits, /^Max open files\s+4000\s+4000\s/m);
});

binaryTest(
  "bytes that are no request are answered by a status and leave no line in the log",
  async () => {
    await using cluster = await Cluster.create({ label: "atk-bytes", nodes: 1 });
    const [node] = cluster.nodes;
    const agent = node.startAgent();
    await node.waitReady();
    await agent.waitForLine(/Adding iptables|Running backend/);
    const before = agent.lines.length;
    const get = (rest: string) => `GET /healthz HTTP/1.1\r\n${rest}\r\n\r\n`;
    const answers: [number, string, string][] = [
      [400, "a host that is none", get("Host: [")],
      [400, "a host with a path", get("Host: a/b")],
      [400, "two hosts", get("Host: a\r\nHost: b")],
      [400, "no host", "GET /healthz HTTP/1.1\r\n\r\n"],
      [400, "TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00".repeat(500)],
      [505, "HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"],
      [400, "no request line", "\x00\xff\r\n\r\n"],
      [400, "a target that is none", "GET healthz HTTP/1.1\r\nHost: x\r\n\r\n"],
      [400, "a control character in a header", get("Host: x\r\nA: \x01\x00")],
      [431, "a huge header", get(`Host: x\r\nA: ${"b".repeat(1 << 20)}`)],
      [431, "many headers", get(`Host: x\r\n${"A: b\r\n".repeat(5_000)}`)],
      [431, "a huge target", `GET /${"x".repeat(1 << 20)} HTTP/1.1\r\nHost: x\r\n\r\n`],
      [404, "control characters in a target", "GET /%1b%5b2J%0a HTTP/1.1\r\nHost: x\r\n\r\n"],
      [405, "another method", "DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n"],
      [200, "the address as the host", get("Host: [::1]:8081")],
      [200, "a query", "GET /healthz?x=[ HTTP/1.1\r\nHost: x\r\n\r\n"],
    ];
    const heads = await answersTo(node, answers.map(([, , bytes]) => bytes));
    for (const [index, [status, what]] of answers.entries()) {
      assert.match(heads[index], new RegExp(`^HTTP/1\\.1 ${status} `), what);
    }
    // And very many of them.
    await using _clients = await attack(node, {
      count: 100,
      send: get("Host: ["),
      again: true,
      reads: true,
    });
    for (let time = 0; time < 5; time++) await assertPrompt(node, "malformed requests");
    assert.deepEqual(agent.lines.slice(before).filter((line) => !/^I/.test(line)), []);
    assert.ok(agent.lines.length < before + 10, agent.lines.join("\n"));
  },
);

binaryTest("answers that are not fetched hold little memory", async () => {
  const network = { Network: "10.0.0.0/8", SubnetMin: "10.200.0.0", Backend: { Type: "udp" } };
  await using cluster = await Cluster.create({ label: "atk-slow", nodes: 1, network });
  const [node] = cluster.nodes;
  await writeLeases(cluster, 2_000);
  const agent = node.startAgent();
  await node.waitReady();
  await eventually(async () => {
    const { body } = await node.health("/metrics");
    assert.match(body, /^flanneld_peers 2000$/m);
  });
  const resident = async () => {
    const text = await Deno.readTextFile(`/proc/${agent.pid}/status`);
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)![1]) / 1024;
  };
  const before = await resident();
  await using _clients = await attack(node, {
    count: 300,
    send: "GET /metrics HTTP/1.0\r\n\r\n",
    again: true,
    sources: 20,
  });
  const began = performance.now();
  await waitFor(async () => {
    await assertPrompt(node, "slow readers");
    return performance.now() - began > 4_000;
  }, { limitMs: 30_000, what: "four seconds" });
  const after = await resident();
  assert.ok(after < before + 40, `${before} to ${after} MB`);
});
