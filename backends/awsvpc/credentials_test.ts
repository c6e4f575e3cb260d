import assert from "node:assert/strict";
import { Credentials } from "./credentials.ts";
import { Ec2Fault } from "./faults.ts";

const URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/** Credentials that a server on loopback gives out, numbered, each good for so many seconds. */
class Source implements AsyncDisposable {
  lifetime = 3600;
  failing = false;
  asked = 0;
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => this.#answer(),
  );

  constructor() {
    // The SDK's provider reads the process's environment.
    Deno.env.set(URI, this.uri);
  }

  get uri(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  credentials(): Credentials {
    const env: Record<string, string> = {
      [URI]: this.uri,
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
      AWS_CONFIG_FILE: "/dev/null",
    };
    return new Credentials((name) => env[name]);
  }

  #answer(): Response {
    if (this.failing) return new Response("", { status: 404 });
    return Response.json({
      AccessKeyId: `k${++this.asked}`,
      SecretAccessKey: "s",
      Token: "t",
      Expiration: new Date(Date.now() + this.lifetime * 1000).toISOString(),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Deno.env.delete(URI);
    await this.#server.shutdown();
  }
}

Deno.test("credentials are kept until five minutes before their end, then renewed", async () => {
  await using source = new Source();
  const credentials = source.credentials();
  const key = async (provider = credentials.provider()) => (await provider()).accessKeyId;
  // Clients share what was fetched, and calls at the same time the one request.
  assert.deepEqual(await Promise.all([key(), key()]), ["k1", "k1"]);
  assert.equal(await key(), "k1");

  source.lifetime = 200;
  const soon = source.credentials().provider();
  assert.deepEqual([await key(soon), await key(soon)], ["k2", "k3"]);
  // What cannot be renewed is used to its end.
  source.failing = true;
  assert.equal(await key(soon), "k3");
  source.failing = false;
  source.lifetime = 1;
  assert.equal(await key(soon), "k4");
  source.failing = true;
  await new Promise((done) => setTimeout(done, 1_100));
  await assert.rejects(key(soon), (error) => {
    assert.ok(error instanceof Ec2Fault);
    assert.equal(error.kind, "credentials");
    assert.match(error.message, /^no AWS credentials from the container's credentials at .* 404$/);
    return true;
  });
});

Deno.test("credentials that EC2 refuses are not kept", async () => {
  await using source = new Source();
  const credentials = source.credentials();
  const key = async () => (await credentials.provider()()).accessKeyId;
  const failing = (name: string, httpStatusCode: number) =>
    credentials.forgetRefused<undefined, void>(() =>
      Promise.reject(Object.assign(new Error(name), { name, $metadata: { httpStatusCode } }))
    );
  assert.equal(await key(), "k1");
  await assert.rejects(failing("UnauthorizedOperation", 403)(undefined));
  assert.equal(await key(), "k1");
  await assert.rejects(failing("ExpiredToken", 400)(undefined));
  assert.equal(await key(), "k2");
});

Deno.test("keys of the environment are read anew each time", async () => {
  const env: Record<string, string> = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "s" };
  for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
  try {
    const provider = new Credentials((name) => env[name]).provider();
    assert.equal((await provider()).accessKeyId, "a");
    Deno.env.set("AWS_ACCESS_KEY_ID", "b");
    assert.equal((await provider()).accessKeyId, "b");
  } finally {
    for (const name of Object.keys(env)) Deno.env.delete(name);
  }
});

Deno.test("the wait for credentials ends with the program", async () => {
  await using stack = new AsyncDisposableStack();
  const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  stack.defer(() => silent.close());
  const uri = `http://127.0.0.1:${silent.addr.port}/`;
  const env: Record<string, string> = {
    [URI]: uri,
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    AWS_CONFIG_FILE: "/dev/null",
  };
  Deno.env.set(URI, uri);
  stack.defer(() => Deno.env.delete(URI));
  const end = new AbortController();
  const asked = new Credentials((name) => env[name]).provider(end.signal)();
  const began = performance.now();
  setTimeout(() => end.abort(), 50);
  await assert.rejects(asked, { name: "AbortError" });
  assert.ok(performance.now() - began < 1_000);
});
