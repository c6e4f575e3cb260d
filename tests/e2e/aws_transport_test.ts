/** How the agent and doctor reach EC2: certificates, proxies and endpoints, as operators set them. */
import assert from "node:assert/strict";
import { type Aws, type Instance, REGION } from "../../testbed/aws.ts";
import { certificateAuthority } from "../../testbed/certificates.ts";
import type { Node } from "../../testbed/cluster.ts";
import { ConnectProxy } from "../../testbed/connect_proxy.ts";
import { Gate } from "../../testbed/gate.ts";
import { exec, type Output } from "../../testbed/netns.ts";
import { agentEnvironment } from "../../testbed/node.ts";
import { cloud } from "./aws_cloud.ts";
import { flanneldCommand } from "../../testbed/node.ts";
import { matching, runFlanneldWith, terminate } from "./support.ts";

/** Milliseconds for an agent to be ready, or to try again, on a busy machine. */
const LIMIT = 60_000;

const EC2 = `ec2.${REGION}.amazonaws.com:443`;

/** Where tests' files are. */
const folder = Deno.makeTempDirSync({ prefix: "aws-transport-" });
const stack = new AsyncDisposableStack();
let aws: Aws;
let node: Node;
let instance: Instance;
/** The proxy to EC2, at port 3128 of the node's loopback. */
let proxy: ConnectProxy;
/** EC2's URL on the switch. */
let endpoint: string;
/** Of a profile. */
const KEYS = "aws_access_key_id = test\naws_secret_access_key = test\n";
/** Variables for etcd, which gRPC would reach through a proxy, too. */
const NO_ETCD = { no_proxy: "192.168.77.0/24" };

Deno.test.beforeAll(async () => {
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const world = stack.use(await cloud({ label: "awstls" }));
  ({ aws, instances: [instance], cluster: { nodes: [node] } } = world);
  endpoint = world.env.AWS_ENDPOINT_URL_EC2;
  proxy = stack.use(await ConnectProxy.start(aws.proxy.port));
  await proxy.serveIn(node.ns, "127.0.0.1");
});
Deno.test.beforeEach(() => {
  proxy.requests.length = 0;
  proxy.credentials = proxy.refusal = undefined;
});
Deno.test.afterEach(async () => {
  if (node.agent && !node.agent.ended) await terminate(node.agent);
  await Deno.remove(node.subnetFile).catch(() => {});
});
Deno.test.afterAll(() => stack.disposeAsync());

/** What doctor prints and how it ends. */
interface Report {
  code: number;
  lines: string[];
}

function doctorArgs(): string[] {
  return ["doctor", "aws-vpc", ...node.cluster.etcdArgs()];
}

async function doctor(env: Record<string, string>): Promise<Report> {
  return reportOf(await runFlanneldWith(env, node, ...doctorArgs()));
}

/** Doctor on a host whose mounts a script changes first; EC2 is at {@linkcode endpoint}. */
async function doctorBehind(script: string): Promise<Report> {
  const behind = ["unshare", "--mount", "sh", "-ec", `${script}\nexec "$@"`, "-"];
  const all = [...behind, ...flanneldCommand(), ...doctorArgs()];
  const options = agentEnvironment({ AWS_ENDPOINT_URL_EC2: endpoint });
  return reportOf(await exec("ip", ["netns", "exec", node.ns.name, ...all], options));
}

function reportOf({ code, stdout, stderr }: Output): Report {
  assert.equal(stderr, "");
  return { code, lines: stdout.trim().split("\n") };
}

/** Asserts that doctor gets as far as EC2's answers. */
async function assertReached(env: Record<string, string>): Promise<void> {
  assertFound(await doctor(env));
}

function assertFound({ lines }: Report): void {
  const found = `pass  network interface: ${instance.eniId} has ${node.ipv4}`;
  assert.ok(lines.includes(found), lines.join("\n"));
}

/** Starts an agent that does not get to EC2; gives the one line that says why. */
async function unreached(env: Record<string, string>, why: RegExp): Promise<string> {
  const from = aws.proxy.calls.length;
  const agent = node.startAgent({ env });
  const [line] = await agent.waitForLine(/EC2 cannot be reached: .*/, LIMIT);
  assert.match(line, why);
  assert.equal((await node.health("/readyz")).status, 503);
  assert.ok(!agent.ended, "it goes on");
  assert.equal(aws.proxy.calls.length, from);
  return line;
}

/** A file of its own with a bundle. */
async function bundle(name: string, ...pems: string[]): Promise<string> {
  const path = `${folder}/${name}`;
  const texts = await Promise.all(pems.map((pem) => Deno.readTextFile(pem)));
  await Deno.writeTextFile(path, texts.join("\n"));
  return path;
}

Deno.test("an authority that AWS_CA_BUNDLE or the system's store has, for agent and doctor", async () => {
  const { ca } = aws.proxy.tls;
  const store = "/etc/ssl/certs/ca-certificates.crt";
  assertFound(await doctorBehind(`mount --bind ${await bundle("store", store, ca)} ${store}`));
  const certs = `${folder}/certs`;
  await Deno.mkdir(certs);
  await Deno.copyFile(ca, `${certs}/1.pem`);
  for (
    const [variable, path] of [
      ["AWS_CA_BUNDLE", ca],
      ["SSL_CERT_FILE", ca],
      ["SSL_CERT_DIR", `/nowhere:${certs}`],
    ]
  ) await assertReached({ AWS_ENDPOINT_URL_EC2: endpoint, [variable]: path });
  // What the runtime's support for Node would trust, or do, is no matter.
  node.startAgent({
    env: {
      AWS_ENDPOINT_URL_EC2: endpoint,
      AWS_CA_BUNDLE: ca,
      NODE_EXTRA_CA_CERTS: "/etc/ssl/certs/ca-certificates.crt",
    },
  });
  await node.waitReady(LIMIT);
});

Deno.test("a host without a store has Mozilla's list", async () => {
  const folders = ["/etc/ssl", "/etc/pki"].map((path) =>
    `test ! -d ${path} || mount -t tmpfs none ${path}`
  );
  const { code, lines } = await doctorBehind(folders.join("\n"));
  assert.equal(code, 1);
  assert.match(
    lines.join("\n"),
    /no authority in Mozilla's list \(this host has no store\) has signed the certificate of 192\./,
  );
});

Deno.test("the shared config's endpoint, bundle and profile, anywhere on the host", async () => {
  const home = `${folder}/home`;
  await Deno.mkdir(`${home}/.aws`, { recursive: true });
  const ca = await bundle("corp ca.pem", aws.proxy.tls.ca);
  const profile = [`ca_bundle = ${ca}  # ours`, `endpoint_url = ${endpoint}`, ""].join("\n");
  await Deno.writeTextFile(`${home}/.aws/config`, `[default]\nregion=${REGION}\n${profile}`);
  await assertReached({ HOME: home });
  const config = `${folder}/config`;
  await Deno.writeTextFile(
    config,
    `[default]\nca_bundle=/nowhere.pem\n[profile flannel]\n${profile}${KEYS}`,
  );
  await assertReached({ AWS_CONFIG_FILE: config, AWS_PROFILE: "flannel" });
  const { code, lines } = await doctor({ AWS_CONFIG_FILE: config });
  assert.equal(code, 1);
  assert.match(
    lines.join("\n"),
    /cannot be reached: ca_bundle in the shared config file names "\/nowhere\.pem", which does not/,
  );
  // The variable comes first.
  const both = { AWS_CONFIG_FILE: config, AWS_CA_BUNDLE: ca, AWS_ENDPOINT_URL_EC2: endpoint };
  await assertReached(both);
});

Deno.test("an authority that is not trusted is one line until its bundle is there", async () => {
  const other = await certificateAuthority(folder, "other");
  const path = await bundle("bundle.pem", other.cert);
  const env = { AWS_ENDPOINT_URL_EC2: endpoint, AWS_CA_BUNDLE: path };
  const line = await unreached(env, /no authority in AWS_CA_BUNDLE \(.*bundle\.pem\) has signed/);
  assert.match(
    line,
    /certificate of 192\.168\.77\.1:5000 \(.*\); .* AWS_CA_BUNDLE; retrying/,
  );
  await bundle("bundle.pem", other.cert, aws.proxy.tls.ca);
  await node.waitReady(LIMIT);
  assert.equal(matching(node.agent!, /cannot be reached/).length, 1);
  const { code, lines } = await doctor({ AWS_ENDPOINT_URL_EC2: endpoint });
  assert.equal(code, 1);
  assert.match(lines.join("\n"), /no authority in \/etc\/\S+ has signed the certificate of 192\./);
});

Deno.test("a bundle that is not there, and one that is none, are named", async () => {
  const path = `${folder}/late.pem`;
  const env = { AWS_ENDPOINT_URL_EC2: endpoint, AWS_CA_BUNDLE: path };
  await unreached(env, /: AWS_CA_BUNDLE names ".*\/late\.pem", which does not exist; name a PEM/);
  await Deno.writeTextFile(path, "none\n");
  await node.agent!.waitForLine(/"[^"]*late\.pem", which has no certificate in PEM form; /, LIMIT);
  await bundle("late.pem", aws.proxy.tls.ca);
  await node.waitReady(LIMIT);
});

Deno.test("EC2's own endpoints through a proxy, which sees nothing of metadata and credentials", async () => {
  proxy.credentials = "flannel:pass/word";
  const url = "http://flannel:pass%2Fword@127.0.0.1:3128";
  const env = {
    AWS_CA_BUNDLE: aws.proxy.tls.ca,
    HTTPS_PROXY: url,
    HTTP_PROXY: url,
    NODE_USE_ENV_PROXY: "1",
  };
  const agent = node.startAgent({ env });
  await node.waitReady(LIMIT);
  const [, table] = await agent.waitForLine(/Found route table (rtb-\w+)/);
  assert.ok((await aws.routes(table)).some(({ target }) => target === instance.eniId));
  const targets =
    () => [...new Set(proxy.requests.map(({ method, target }) => `${method} ${target}`))];
  assert.deepEqual(targets(), [`CONNECT ${EC2}`]);
  assert.doesNotMatch(agent.lines.join("\n"), /pass|Basic/);
  await terminate(agent);

  proxy.requests.length = 0;
  const lower = { AWS_CA_BUNDLE: aws.proxy.tls.ca, https_proxy: url, http_proxy: url, ...NO_ETCD };
  await assertReached(lower);
  assert.deepEqual(targets(), [`CONNECT ${EC2}`]);
  for (
    const [variable, host] of [
      ["AWS_USE_FIPS_ENDPOINT", `ec2-fips.${REGION}.amazonaws.com`],
      ["AWS_USE_DUALSTACK_ENDPOINT", `ec2.${REGION}.api.aws`],
    ]
  ) {
    proxy.requests.length = 0;
    await assertReached({ ...lower, [variable]: "true" });
    assert.deepEqual(targets(), [`CONNECT ${host}:443`]);
  }
});

Deno.test("credentials of a container come straight, whatever HTTP_PROXY says", async () => {
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () =>
      Response.json({
        ...{ AccessKeyId: "container", SecretAccessKey: "container", Token: "container" },
        Expiration: "2100-01-01T00:00:00Z",
      }),
  );
  await using gate = new Gate(server.addr.port);
  await gate.listenIn(node.ns, "127.0.0.1", 8999);
  await assertReached({
    AWS_CA_BUNDLE: aws.proxy.tls.ca,
    AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://127.0.0.1:8999/role",
    HTTPS_PROXY: "http://127.0.0.1:3128",
    HTTP_PROXY: "http://127.0.0.1:3128",
  });
  assert.deepEqual(new Set(proxy.requests.map(({ target }) => target)), new Set([EC2]));
});

Deno.test("what NO_PROXY has goes straight", async () => {
  const { ca } = aws.proxy.tls;
  for (
    const [variable, except] of [
      ["NO_PROXY", "192.168.77.0/24"],
      ["no_proxy", "127.0.0.1,192.168.77.1"],
    ]
  ) {
    const env = { AWS_ENDPOINT_URL_EC2: endpoint, AWS_CA_BUNDLE: ca, [variable]: except };
    await assertReached({ ...env, HTTPS_PROXY: "http://127.0.0.1:3128" });
  }
  assert.deepEqual(proxy.requests, []);
});

Deno.test("a proxy that refuses is one line without its password, and is asked again", async () => {
  proxy.credentials = "flannel:right";
  const { ca } = aws.proxy.tls;
  const env = { AWS_CA_BUNDLE: ca, HTTPS_PROXY: "http://flannel:wrong@127.0.0.1:3128" };
  await unreached(
    env,
    new RegExp(
      `the proxy 127\\.0\\.0\\.1:3128 \\(HTTPS_PROXY\\) refuses .* ${
        EC2.replace(":443", "")
      } \\(407`,
    ),
  );
  proxy.credentials = undefined;
  await node.waitReady(LIMIT);
  assert.doesNotMatch(node.agent!.lines.join("\n"), /wrong/);
  await terminate(node.agent!);

  proxy.refusal = 403;
  const { code, lines } = await doctor(env);
  assert.equal(code, 1);
  assert.match(
    lines.join("\n"),
    /refuses .* \(403 No\)\n *fix: allow the host there, or .* NO_PROXY/,
  );
  const bad = await doctor({ AWS_CA_BUNDLE: ca, HTTPS_PROXY: "http://flannel:wrong@:3128" });
  assert.equal(bad.code, 1);
  assert.match(
    bad.lines.join("\n"),
    /cannot be reached: HTTPS_PROXY is not a URL\n *fix: set it to/,
  );
  assert.doesNotMatch([...lines, ...bad.lines].join("\n"), /wrong/);
});

Deno.test("an endpoint without TLS, straight and through HTTP_PROXY", async () => {
  const { port } = new URL(aws.proxy.moto);
  await using gate = new Gate(Number(port));
  await gate.listenIn(node.ns, "127.0.0.1", 5001);
  await assertReached({ AWS_ENDPOINT_URL_EC2: "http://127.0.0.1:5001" });
  await using plain = await ConnectProxy.start(Number(port));
  await plain.serveIn(node.ns, "127.0.0.1", 3129);
  await assertReached({
    AWS_ENDPOINT_URL_EC2: "http://ec2.internal",
    HTTP_PROXY: "http://127.0.0.1:3129",
  });
  assert.ok(plain.requests.length > 0);
  assert.ok(plain.requests.every(({ target }) => target === "http://ec2.internal/"));
});
