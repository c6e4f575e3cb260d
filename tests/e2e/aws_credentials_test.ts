/**
 * Each way in which AWS credentials are found, in the built program with its own permissions: what
 * EC2's calls are signed with, and that what is not supported or incomplete is refused, not passed
 * over.
 *
 * @module
 */
import assert from "node:assert/strict";
import { EC2_ERRORS, REGION } from "../../testbed/aws.ts";
import { ConnectProxy } from "../../testbed/connect_proxy.ts";
import { ContainerCredentials } from "../../testbed/container_credentials.ts";
import { waitFor } from "../../testbed/netns.ts";
import { CredentialsWorld } from "./aws_credentials_world.ts";

const ROLE = "arn:aws:iam::123456789012:role/flannel";
const OTHER_ROLE = "arn:aws:iam::210987654321:role/routes";
const keys = (id: string) => `aws_access_key_id = ${id}\naws_secret_access_key = secret\n`;
const ENVIRONMENT = { AWS_ACCESS_KEY_ID: "env", AWS_SECRET_ACCESS_KEY: "secret" };

let world: CredentialsWorld;
Deno.test.beforeAll(async () => {
  world = await CredentialsWorld.create();
});
Deno.test.afterAll(() => world?.[Symbol.asyncDispose]());

/** A home folder with these shared files. */
async function homeWith(
  name: string,
  files: { config?: string; credentials?: string },
): Promise<Record<string, string>> {
  for (const [file, text] of Object.entries(files)) await world.write(`${name}/.aws/${file}`, text);
  return { HOME: world.home(name) };
}

/** Says where the credentials are from, and signs all of EC2's calls with this key. */
async function signs(
  env: Record<string, string>,
  key: string | undefined,
  source: string,
  prefix?: string[],
) {
  const found = await world.doctor(env, prefix);
  const text = found.lines.join("\n");
  assert.ok(found.lines.includes(`pass  credentials: ${source}`), text);
  assert.deepEqual(found.keys, [key ?? found.sts.at(-1)?.issued], text);
  return found;
}

Deno.test("keys in the environment", async () => {
  await signs(ENVIRONMENT, "env", "AWS_ACCESS_KEY_ID");
  const more = {
    AWS_SESSION_TOKEN: "token",
    AWS_CREDENTIAL_EXPIRATION: "2100-01-01T00:00:00Z",
    AWS_ACCOUNT_ID: "123456789012",
  };
  await signs({ ...ENVIRONMENT, ...more }, "env", "AWS_ACCESS_KEY_ID");
});

Deno.test("profiles with keys, wherever the files are", async () => {
  const home = await homeWith("keys", {
    credentials: `[default]\n${keys("default")}`,
    config: `[profile other]\n${keys("other")}`,
  });
  await signs(home, "default", 'profile "default"');
  await signs({ ...home, AWS_PROFILE: "other" }, "other", 'profile "other"');
  await signs({ ...home, ...ENVIRONMENT, AWS_PROFILE: "other" }, "other", 'profile "other"');
  // Where the file is named, by a path that nobody has expanded.
  await world.write("keys/elsewhere", `[default]\n${keys("elsewhere")}`);
  const elsewhere = { ...home, AWS_SHARED_CREDENTIALS_FILE: "~/elsewhere" };
  await signs(elsewhere, "elsewhere", 'profile "default"');
  const named = { AWS_SHARED_CREDENTIALS_FILE: `${home.HOME}/elsewhere` };
  await signs(named, "elsewhere", 'profile "default"');
});

Deno.test("without HOME, as a service of root has it, the home folder is the user's", async () => {
  const { HOME } = await homeWith("service", { credentials: `[default]\n${keys("service")}` });
  const users = await world.write("passwd", `root:x:0:0::${HOME}:/bin/sh\n`);
  const script = `mount --bind ${users} /etc/passwd && exec "$@"`;
  const prefix = ["unshare", "--mount", "sh", "-c", script, "sh"];
  await signs({}, "service", 'profile "default"', prefix);
});

Deno.test("a role, assumed with another profile's keys", async () => {
  const settings = "external_id = ext\nrole_session_name = node\nduration_seconds = 900\n";
  const home = await homeWith("role", {
    credentials: `[base]\n${keys("base")}`,
    config: `[profile r]\nrole_arn = ${ROLE}\nsource_profile = base\nregion = eu-west-1\n` +
      `${settings}[profile chain]\nrole_arn = ${OTHER_ROLE}\nsource_profile = r\n`,
  });
  const role = await signs(
    { ...home, AWS_PROFILE: "r" },
    undefined,
    `profile "r", for the role ${ROLE}`,
  );
  const [call, ...more] = role.sts;
  assert.deepEqual(more, []);
  assert.equal(call.accessKey, "base");
  const { RoleArn, ExternalId, RoleSessionName, DurationSeconds } = Object.fromEntries(call.params);
  assert.deepEqual([RoleArn, ExternalId, RoleSessionName, DurationSeconds], [
    ROLE,
    "ext",
    "node",
    "900",
  ]);

  const chain = await signs(
    { ...home, AWS_PROFILE: "chain" },
    undefined,
    `profile "chain", for the role ${OTHER_ROLE}`,
  );
  const [first, second] = chain.sts;
  assert.deepEqual([first.accessKey, second.accessKey], ["base", first.issued]);
  assert.equal(second.params.get("RoleArn"), OTHER_ROLE);
});

Deno.test("a role, assumed with each of the sources", async () => {
  await using ecs = await ContainerCredentials.start(world.node.ns, "169.254.170.2");
  const cases: [source: string, key: string, env?: Record<string, string>][] = [
    ["Environment", "env", ENVIRONMENT],
    ["Ec2InstanceMetadata", "role"],
    ["EcsContainer", "container", { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/v2/credentials/1" }],
  ];
  const config = cases.map(([source]) =>
    `[profile ${source}]\nrole_arn = ${ROLE}\ncredential_source = ${source}\n`
  ).join("");
  const home = await homeWith("sources", { config });
  for (const [AWS_PROFILE, key, env = {}] of cases) {
    const { sts } = await signs(
      { ...home, ...env, AWS_PROFILE },
      undefined,
      `profile "${AWS_PROFILE}", for the role ${ROLE}`,
    );
    assert.deepEqual(sts.map(({ accessKey }) => accessKey), [key]);
  }
  assert.deepEqual(ecs.requests.map(({ path }) => path), ["/v2/credentials/1"]);
});

Deno.test("web identity, by variables and by profiles", async () => {
  // As Kubernetes mounts it: each renewal is a new folder behind two links.
  const token = await world.write("token/..1/token", "jwt");
  const path = `${world.home("token")}/token`;
  await Deno.symlink("..1", `${world.home("token")}/..data`);
  await Deno.symlink("..data/token", path);
  const variables = { AWS_WEB_IDENTITY_TOKEN_FILE: path, AWS_ROLE_ARN: ROLE };
  const source = `AWS_WEB_IDENTITY_TOKEN_FILE, for the role ${ROLE}`;
  const { sts: [call] } = await signs(
    { ...variables, AWS_ROLE_SESSION_NAME: "node" },
    undefined,
    source,
  );
  assert.deepEqual(
    ["Action", "WebIdentityToken", "RoleArn", "RoleSessionName"].map((name) =>
      call.params.get(name)
    ),
    ["AssumeRoleWithWebIdentity", "jwt", ROLE, "node"],
  );
  assert.equal(call.accessKey, "");

  const home = await homeWith("web", {
    config: `[profile web]\nrole_arn = ${ROLE}\nweb_identity_token_file = ${token}\n` +
      `[profile chain]\nrole_arn = ${OTHER_ROLE}\nsource_profile = web\n`,
  });
  const profile = { ...home, AWS_PROFILE: "web" };
  const permitted = { AWS_WEB_IDENTITY_TOKEN_FILE: token };
  const { sts: [byProfile] } = await signs(
    { ...profile, ...permitted },
    undefined,
    `profile "web", for the role ${ROLE}`,
  );
  assert.equal(byProfile.params.get("WebIdentityToken"), "jwt");
  const { sts } = await signs(
    { ...home, AWS_PROFILE: "chain", ...permitted },
    undefined,
    `profile "chain", for the role ${OTHER_ROLE}`,
  );
  assert.deepEqual(sts.map(({ action }) => action), ["AssumeRoleWithWebIdentity", "AssumeRole"]);
  await refuses(
    profile,
    `web_identity_token_file of profile "web" names ${token}, which flanneld is not permitted to ` +
      `read: set AWS_WEB_IDENTITY_TOKEN_FILE=${token} as well`,
  );
});

Deno.test("a container's credentials, on ECS and by EKS Pod Identity", async () => {
  {
    await using ecs = await ContainerCredentials.start(world.node.ns, "169.254.170.2");
    ecs.token = "Basic x";
    await signs(
      {
        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/v2/credentials/1",
        AWS_CONTAINER_AUTHORIZATION_TOKEN: "Basic x",
      },
      "container",
      "the container's credentials at /v2/credentials/1",
    );
  }
  await using eks = await ContainerCredentials.start(world.node.ns, "169.254.170.23");
  eks.token = "pod's";
  const file = await world.write("pod/token", "pod's");
  const uri = "http://169.254.170.23/v1/credentials";
  const pod = {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: uri,
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file,
  };
  await signs(pod, "container", `the container's credentials at ${uri}`);
  assert.deepEqual(eks.requests, [{ path: "/v1/credentials", authorization: "pod's" }]);
  await world.write("pod/token", "stale");
  await refuses(pod, `no AWS credentials from the container's credentials at ${uri}: Server resp`);
});

Deno.test("the instance's role", async () => {
  await signs({}, "role", "the instance's role");
  // A profile that says nothing of credentials is in nobody's way.
  const home = await homeWith("region", { config: "[default]\nregion = eu-central-1\n" });
  await signs(home, "role", "the instance's role");
});

Deno.test("without endpoints, STS is asked in the instance's region", async () => {
  await world.aws.proxy.serveIn(world.cluster.switch, "192.168.77.1", 443);
  const hosts = await world.write(
    "hosts",
    ["ec2", "sts"].map((service) => `192.168.77.1 ${service}.${REGION}.amazonaws.com\n`).join(""),
  );
  const home = await homeWith("region-sts", {
    config: `[default]\nrole_arn = ${ROLE}\ncredential_source = Ec2InstanceMetadata\n`,
  });
  const script = `mount --bind ${hosts} /etc/hosts && exec "$@"`;
  const none = { AWS_ENDPOINT_URL_EC2: "", AWS_ENDPOINT_URL_STS: "" };
  const { sts } = await signs(
    { ...home, ...none },
    undefined,
    `profile "default", for the role ${ROLE}`,
    ["unshare", "--mount", "sh", "-c", script, "sh"],
  );
  assert.deepEqual(sts.map(({ accessKey }) => accessKey), ["role"]);
});

Deno.test("through a proxy STS is reached as EC2 is, and the container's agent without it", async () => {
  const { aws, cluster, node } = world;
  await using ecs = await ContainerCredentials.start(node.ns, "169.254.170.2");
  await using proxy = await ConnectProxy.start(aws.proxy.port);
  await proxy.serveIn(cluster.switch, "192.168.77.1");
  const home = await homeWith("proxied", {
    config: `[default]\nrole_arn = ${ROLE}\ncredential_source = EcsContainer\n`,
  });
  const url = "http://192.168.77.1:3128";
  const { sts } = await signs(
    {
      ...home,
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/x",
      HTTPS_PROXY: url,
      HTTP_PROXY: url,
      AWS_ENDPOINT_URL_EC2: `https://ec2.${REGION}.amazonaws.com`,
      AWS_ENDPOINT_URL_STS: `https://sts.${REGION}.amazonaws.com`,
    },
    undefined,
    `profile "default", for the role ${ROLE}`,
  );
  assert.deepEqual(sts.map(({ accessKey }) => accessKey), ["container"]);
  assert.equal(ecs.requests.length, 1);
  const targets = new Set(proxy.requests.map(({ method, target }) => `${method} ${target}`));
  assert.deepEqual([...targets].sort(), [
    `CONNECT ec2.${REGION}.amazonaws.com:443`,
    `CONNECT sts.${REGION}.amazonaws.com:443`,
  ]);
});

Deno.test("an agent takes each renewed token, and renews credentials before their end", async () => {
  const { node, aws } = world;
  await using eks = await ContainerCredentials.start(node.ns, "169.254.170.23");
  eks.lifetime = 60;
  eks.token = "first";
  eks.accessKey = "key-one";
  const file = await world.write("agent/token", "first");
  const forbidden = aws.proxy.answer("CreateRoute", EC2_ERRORS.unauthorized);
  const from = aws.proxy.calls.length;
  const agent = node.startAgent({
    env: {
      ...world.variables(),
      AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://169.254.170.23/v1/credentials",
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file,
    },
  });
  await agent.waitForLine(/AWS credentials come from the container's credentials at /, 60_000);
  await agent.waitForLine(/allow ec2:CreateRoute/, 60_000);
  eks.token = "second";
  eks.accessKey = "key-two";
  await world.write("agent/token", "second");
  await waitFor(() => eks.requests.some(({ authorization }) => authorization === "second"), {
    limitMs: 60_000,
    what: "a request with the renewed token",
  });
  forbidden[Symbol.dispose]();
  await node.waitReady(60_000);
  const used = aws.proxy.calls.slice(from).map(({ accessKey }) => accessKey);
  assert.deepEqual([...new Set(used)], ["key-one", "key-two"]);
  assert.equal(agent.lines.filter((line) => line.includes("AWS credentials come")).length, 1);
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
});

Deno.test("an agent refuses once, and goes on when the profile is there", async () => {
  const { node, aws } = world;
  const from = aws.proxy.calls.length;
  const env = { HOME: world.home("later"), AWS_PROFILE: "later", ...world.variables() };
  const agent = node.startAgent({ env });
  const refusal =
    /AWS credentials: AWS_PROFILE names profile "later", which does not exist: add it as/;
  await agent.waitForLine(refusal, 60_000);
  assert.equal((await node.health("/readyz")).status, 503);
  assert.deepEqual(aws.proxy.calls.slice(from), []);
  await homeWith("later", { credentials: `[later]\n${keys("later")}` });
  await node.waitReady(60_000);
  assert.equal(agent.lines.filter((line) => refusal.test(line)).length, 1);
  const used = aws.proxy.calls.slice(from).map(({ accessKey }) => accessKey);
  assert.deepEqual([...new Set(used)], ["later"]);
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
});

Deno.test("an agent ends at once though STS does not answer", async () => {
  const { node } = world;
  await using _silent = world.cluster.switch.spawn("socat", [
    "TCP-LISTEN:6000,bind=192.168.77.1,reuseaddr,fork",
    "EXEC:sleep 60",
  ]);
  const token = await world.write("silent/token", "jwt");
  const agent = node.startAgent({
    env: {
      ...world.variables(),
      AWS_ENDPOINT_URL_STS: "http://192.168.77.1:6000",
      AWS_WEB_IDENTITY_TOKEN_FILE: token,
      AWS_ROLE_ARN: ROLE,
    },
  });
  await agent.waitForLine(/Waiting for .* to renew lease/, 60_000);
  await waitFor(
    () =>
      world.cluster.switch.run(
        "sh",
        "-c",
        "ss -Htn state established '( sport = :6000 )' | grep .",
      ),
    {
      limitMs: 60_000,
      what: "a connection to STS",
    },
  );
  const began = performance.now();
  agent.kill("SIGTERM");
  assert.equal((await agent.status).code, 0);
  assert.ok(performance.now() - began < 5_000, agent.lines.join("\n"));
});

/** Calls neither EC2 nor STS, and says this. */
async function refuses(env: Record<string, string>, reason: string): Promise<void> {
  const { lines, keys, sts } = await world.doctor(env);
  const text = lines.join("\n");
  assert.deepEqual(keys, [], text);
  assert.deepEqual(sts, [], text);
  const line = lines.find((line) => line.startsWith("fail  credentials: ")) ?? "";
  assert.ok(
    line.replace(/^fail {2}credentials: (AWS credentials: )?/, "").startsWith(reason),
    text,
  );
}

Deno.test("what is not supported or incomplete is refused, though the instance has a role", async () => {
  const role = `role_arn = ${ROLE}\n`;
  const profiles: [settings: string, reason: string][] = [
    ["sso_session = s\nsso_account_id = 1\nsso_role_name = r\n", "has sso_session, which is not"],
    ["sso_start_url = https://x\nsso_region = eu-central-1\n", "has sso_start_url, which is not"],
    ["login_session = arn\n", "has login_session, which is not supported"],
    ["credential_process = /bin/true\n", "has credential_process, which is not supported"],
    [`${role}source_profile = base\nmfa_serial = x\n`, "has mfa_serial, which is not supported"],
    ["region = eu-central-1\n", "has no credentials: add some"],
    ["aws_access_key_id = x\n", "has aws_access_key_id, but no aws_secret_access_key"],
    [`${role}credential_source = Environment\n`, "has credential_source Environment, but there"],
  ];
  const config = profiles.map(([settings], index) => `[profile p${index}]\n${settings}`);
  const home = await homeWith("refused", {
    config: [...config, `[profile base]\n${keys("base")}`].join(""),
  });
  for (const [index, [, reason]] of profiles.entries()) {
    const AWS_PROFILE = `p${index}`;
    await refuses({ ...home, AWS_PROFILE }, `profile "${AWS_PROFILE}" ${reason}`);
  }
  await refuses(
    { ...home, AWS_PROFILE: "none" },
    'AWS_PROFILE names profile "none", which does not exist',
  );
  const cases: [env: Record<string, string>, reason: string][] = [
    [{ AWS_ACCESS_KEY_ID: "x" }, "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"],
    [{ AWS_ROLE_ARN: ROLE }, "AWS_ROLE_ARN is set without AWS_WEB_IDENTITY_TOKEN_FILE"],
    [
      { AWS_SHARED_CREDENTIALS_FILE: "/none" },
      "AWS_SHARED_CREDENTIALS_FILE names /none, which does not exist",
    ],
    [
      { AWS_WEB_IDENTITY_TOKEN_FILE: "/none", AWS_ROLE_ARN: ROLE },
      "AWS_WEB_IDENTITY_TOKEN_FILE names /none, which does not exist",
    ],
    [
      { AWS_CONTAINER_CREDENTIALS_FULL_URI: "https://192.0.2.1/" },
      'AWS_CONTAINER_CREDENTIALS_FULL_URI is "https://192.0.2.1/": flanneld accepts only http://',
    ],
    [
      {
        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/x",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: "/none",
      },
      "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names /none, which does not exist",
    ],
    [
      await homeWith("malformed", { credentials: `[default\n${keys("x")}` }),
      `${world.home("malformed")}/.aws/credentials, line 1, is neither`,
    ],
    [
      { AWS_EC2_METADATA_DISABLED: "true", AWS_REGION: "eu-central-1" },
      "no AWS credentials (AWS_ACCESS_KEY_ID is not set; neither ",
    ],
  ];
  for (const [env, reason] of cases) await refuses(env, reason);
});

Deno.test("STS that refuses, or that nobody reaches, is told by name", async () => {
  const home = await homeWith("sts", {
    config: `[default]\nrole_arn = ${ROLE}\nsource_profile = base\n[profile base]\n${keys("base")}`,
  });
  const message =
    `User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole on ${ROLE}`;
  const source = `profile "default", for the role ${ROLE}`;
  {
    using _denied = world.aws.proxy.answer("AssumeRole", {
      status: 403,
      code: "AccessDenied",
      message,
    });
    const { lines, keys } = await world.doctor(home);
    assert.deepEqual(keys, []);
    const line = lines.find((line) => line.startsWith("fail  credentials: STS refuses")) ?? "";
    assert.ok(
      line.startsWith(
        `fail  credentials: STS refuses credentials to ${source}: AccessDenied: ${message}. ` +
          "status code: 403, request id: ",
      ),
      lines.join("\n"),
    );
    assert.match(line, /; allow it in the role's trust policy, and in the policy of the identity/);
  }
  const { lines, keys: used } = await world.doctor({
    ...home,
    AWS_ENDPOINT_URL_STS: "https://127.0.0.1:9",
  });
  assert.deepEqual(used, []);
  assert.match(
    lines.join("\n"),
    /^fail {2}credentials: STS cannot be reached for the credentials of profile "default".*: 127\.0\.0\.1:9: /m,
  );
});
