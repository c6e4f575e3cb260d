/** How a process comes to region, instance and credentials; each case is a process of its own. */
import assert from "node:assert/strict";
import { Aws, type Instance, Metadata, REGION } from "../../testbed/aws.ts";
import { exec } from "../../testbed/netns.ts";

/** Prints where it is, and what a call to EC2 comes to. */
const PROBE = `
  const { refuseMetadataV1, whereWeAre } = await import("./backends/awsvpc/metadata.ts");
  const { Ec2Calls, sdkClient } = await import("./backends/awsvpc/client.ts");
  refuseMetadataV1();
  try {
    const where = await whereWeAre();
    const enis = await new Ec2Calls(sdkClient(where.region)).enisOfInstance(where.instanceId);
    console.log(JSON.stringify({ ...where, enis: enis.map(({ id }) => id) }));
  } catch (error) {
    console.log(JSON.stringify({ kind: error.kind, message: error.message }));
  }
`;

let aws: Aws;
let instance: Instance;
Deno.test.beforeAll(async () => {
  aws = await Aws.start();
  const subnet = await aws.createSubnet(await aws.createVpc("172.31.0.0/16"), "172.31.16.0/20");
  instance = await aws.launch(subnet, { ip: "172.31.28.198" });
});
Deno.test.afterAll(() => aws[Symbol.asyncDispose]());

/** Where EC2 is, without credentials. */
function ec2(): Record<string, string> {
  const { AWS_ENDPOINT_URL_EC2, AWS_CA_BUNDLE } = aws.env();
  return { AWS_ENDPOINT_URL_EC2, AWS_CA_BUNDLE };
}

async function probe(env: Record<string, string>): Promise<Record<string, unknown>> {
  const { HOME = "/root", PATH = "" } = Deno.env.toObject();
  const { stdout, stderr } = await exec(Deno.execPath(), ["eval", PROBE], {
    cwd: new URL("../..", import.meta.url).pathname,
    clearEnv: true,
    env: { HOME, PATH, DENO_NO_UPDATE_CHECK: "1", AWS_CONFIG_FILE: "/dev/null", ...env },
  });
  assert.notEqual(stdout, "", stderr);
  return JSON.parse(stdout);
}

/** A metadata service of the first version, which knows no tokens. */
function firstVersion(): Deno.HttpServer<Deno.NetAddr> {
  const answers: Record<string, string> = {
    "/latest/meta-data/instance-id": instance.instanceId,
    "/latest/meta-data/placement/region": REGION,
    "/latest/meta-data/iam/security-credentials/": "role",
    "/latest/meta-data/iam/security-credentials/role": JSON.stringify({
      AccessKeyId: "role",
      SecretAccessKey: "role",
      Token: "role",
      Expiration: "2100-01-01T00:00:00Z",
    }),
  };
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const answer = answers[new URL(request.url).pathname];
    if (request.method !== "GET") return new Response(null, { status: 405 });
    return new Response(answer, { status: answer === undefined ? 404 : 200 });
  });
}

/** A metadata service of an instance that has no role. */
function withoutRole(): Deno.HttpServer<Deno.NetAddr> {
  const answers: Record<string, string> = {
    "/latest/api/token": "token",
    "/latest/meta-data/instance-id": instance.instanceId,
    "/latest/meta-data/placement/region": REGION,
  };
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    const token = request.headers.get("x-aws-ec2-metadata-token");
    if (pathname !== "/latest/api/token" && token !== "token") {
      return new Response(null, { status: 401 });
    }
    return new Response(answers[pathname], { status: pathname in answers ? 200 : 404 });
  });
}

Deno.test("region, instance and the role's credentials, all by IMDSv2", async () => {
  await using metadata = await Metadata.start(instance);
  const env = { ...metadata.env(), ...ec2() };
  const { instanceId, eniId } = instance;
  assert.deepEqual(await probe(env), { region: REGION, instanceId, enis: [eniId] });
  // One endpoint for all services, and a region of the environment's.
  const other = {
    ...metadata.env(),
    AWS_ENDPOINT_URL: aws.proxy.endpoint,
    AWS_CA_BUNDLE: aws.proxy.tls.ca,
    AWS_REGION: "us-east-1",
  };
  assert.deepEqual(await probe(other), { region: "us-east-1", instanceId, enis: [] });
});

Deno.test("IMDSv1 is refused, unless it is asked for", async () => {
  await using service = firstVersion();
  const env = {
    AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${service.addr.port}`,
    ...ec2(),
  };
  const { kind, message } = await probe(env);
  assert.equal(kind, "metadata");
  assert.match(`${message}`, /^the instance metadata service does not answer \(.*IMDSv2/);
  assert.deepEqual(await probe({ ...env, AWS_EC2_METADATA_V1_DISABLED: "false" }), {
    region: REGION,
    instanceId: instance.instanceId,
    enis: [instance.eniId],
  });
});

Deno.test("credentials of a shared file, and the line where there are none", async () => {
  await using metadata = await Metadata.start(instance);
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/credentials`;
    await Deno.writeTextFile(
      file,
      "[default]\naws_access_key_id = test\naws_secret_access_key = test\n",
    );
    const env = {
      ...ec2(),
      AWS_REGION: REGION,
      AWS_EC2_METADATA_DISABLED: "true",
    };
    const none = await probe({ ...env, AWS_SHARED_CREDENTIALS_FILE: "/dev/null" });
    assert.equal(none.kind, "credentials");
    assert.match(`${none.message}`, /^no AWS credentials \(.*\): give the instance a role, or set/);
    const shared = await probe({
      ...env,
      ...metadata.env(),
      AWS_EC2_METADATA_DISABLED: "false",
      AWS_SHARED_CREDENTIALS_FILE: file,
    });
    assert.deepEqual(shared.enis, [instance.eniId]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("an instance without a role: what was tried is named", async () => {
  await using service = withoutRole();
  const { kind, message } = await probe({
    AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${service.addr.port}`,
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    ...ec2(),
  });
  assert.equal(kind, "credentials");
  assert.equal(
    message,
    "no AWS credentials (AWS_ACCESS_KEY_ID is not set; neither /dev/null nor /dev/null has a " +
      'profile "default" with credentials; AWS_WEB_IDENTITY_TOKEN_FILE is not set; ' +
      "AWS_CONTAINER_CREDENTIALS_FULL_URI is not set; the instance has no role): give the " +
      "instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the shared " +
      "credentials file",
  );
});

Deno.test("an endpoint where nobody listens", async () => {
  await using metadata = await Metadata.start(instance);
  const env = { ...metadata.env(), AWS_ENDPOINT_URL_EC2: "http://127.0.0.1:9" };
  const { kind, message } = await probe(env);
  assert.equal(kind, "unreachable");
  assert.match(`${message}`, /^EC2 cannot be reached: .*127\.0\.0\.1:9/);
});
