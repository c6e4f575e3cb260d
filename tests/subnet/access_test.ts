/**
 * Reaching etcd: endpoints, certificates, users, and what it holds at the start.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EtcdSubnetManagerOptions } from "../../subnet/etcd/manager.ts";
import { certificate, certificateAuthority } from "../../testbed/certificates.ts";
import { freePort } from "../../testbed/etcd.ts";
import { run, waitFor } from "../../testbed/netns.ts";
import { Bench, NETWORK, PREFIX, value } from "./bench.ts";

Deno.test("a store of values larger than one answer may be is read all the same", async () => {
  await using bench = await Bench.start(NETWORK);
  const file = `${bench.etcd.folder}/large`;
  await Deno.writeTextFile(file, "x".repeat(1_400_000));
  for (let at = 0; at < 30; at++) {
    await bench.etcd.put(`${PREFIX}/subnets/10.1.${100 + at}.0-24`, file);
  }
  await bench.putLease("10.1.5.0-24", value(5));
  const followed = bench.run(await bench.node(1));
  await followed.until("10.1.5.0-24");
  assert.equal(bench.count(/Skipping lease .*: its value has 1400000 bytes/), 30);
  await bench.etcd.put(`${PREFIX}/subnets/10.1.99.0-24`, file);
  await bench.putLease("10.1.6.0-24", value(6));
  await followed.until("10.1.5.0-24", "10.1.6.0-24");
  assert.equal(bench.count(/unreachable|too large/), 0);
});

Deno.test("a dead or silent first endpoint costs little", async () => {
  await using bench = await Bench.start(NETWORK);
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (const port of [freePort(), silent.addr.port]) {
    const began = performance.now();
    await bench.node(port % 200 + 1, {
      endpoints: [`http://127.0.0.1:${port}`, bench.etcd.endpoint],
    });
    const took = performance.now() - began;
    // Waiting for the silent one would take the whole limit of a read, 30 s.
    assert(took < 3_000, `${took} ms`);
  }
  assert.equal(bench.count(/unreachable/), 0);
});

/** What one attempt after another says with these settings: one line, however many there are. */
async function complaint(
  bench: Bench,
  options: Partial<EtcdSubnetManagerOptions>,
): Promise<string> {
  bench.logged.length = 0;
  const limit = AbortSignal.timeout(1_500);
  await assert.rejects(bench.manager(options).networkConfig(limit), { name: "TimeoutError" });
  assert.equal(bench.logged.length, 1, bench.logged.join("\n"));
  return bench.logged[0];
}

Deno.test("certificates: ours work; what is wrong with others is told once, with the file", async () => {
  await using bench = await Bench.start(NETWORK, { tls: true });
  const followed = bench.run(await bench.node(1));
  const other = await bench.node(2);
  await followed.until(other.lease.key);
  const { folder, authority, endpoint } = bench.etcd;
  const { cert, key } = bench.etcd.tls!;
  const foreign = await certificateAuthority(folder, "foreign");
  const stranger = await certificate(folder, "stranger", foreign);
  const expired = await certificate(folder, "expired", authority!, [], { days: -1 });
  const encrypt = ["-in", key, "-passout", "pass:s3cret", "-out"];
  await run("openssl", ["ec", "-aes256", ...encrypt, `${folder}/old.key`]);
  await run("openssl", ["pkcs8", "-topk8", ...encrypt, `${folder}/new.key`]);
  await run("openssl", ["x509", "-in", cert, "-outform", "der", "-out", `${folder}/der`]);
  await Deno.writeTextFile(`${folder}/garbage`, "garbage\n");
  await Deno.writeTextFile(`${folder}/torn`, (await Deno.readTextFile(cert)).slice(0, 200));
  await Deno.writeTextFile(`${folder}/empty`, "");
  const none = { certfile: undefined, keyfile: undefined };
  const file = (name: string) => `${folder}/${name}`;
  const wrong: [string, Partial<EtcdSubnetManagerOptions>, RegExp][] = [
    ["another authority", { cafile: foreign.ca }, /not signed by .*foreign\.pem \(--etcd-cafile\)/],
    ["no authority", { cafile: undefined }, /not signed by any authority .* set --etcd-cafile/],
    [
      "no such file",
      { cafile: "/no/such/file.pem" },
      /authority \/no\/such\/file\.pem .*no such file/,
    ],
    ["authority: garbage", { cafile: file("garbage") }, /garbage \(--etcd-cafile\) holds no cert/],
    ["authority: empty", { cafile: file("empty") }, /empty \(--etcd-cafile\) holds no cert/],
    ["authority: a key", { cafile: key }, /\(--etcd-cafile\) holds no certificate .* but a key/],
    ["no certificate", none, /requires a client certificate.* set --etcd-certfile and --etcd-keyf/],
    [
      "a stranger's certificate",
      { certfile: stranger.cert, keyfile: stranger.key },
      /does not accept the client certificate .*stranger\.pem .*--trusted-ca-file/,
    ],
    [
      "expired",
      { certfile: expired.cert, keyfile: expired.key },
      /does not accept the client certificate .*expired\.pem .*which expired on /,
    ],
    [
      "another's key",
      { keyfile: stranger.key },
      /stranger\.key .* does not belong to .*client\.pem/,
    ],
    [
      "key encrypted, PKCS#1",
      { keyfile: file("old.key") },
      /old\.key \(--etcd-keyfile\) is encrypted/,
    ],
    [
      "key encrypted, PKCS#8",
      { keyfile: file("new.key") },
      /new\.key \(--etcd-keyfile\) is encrypted/,
    ],
    [
      "key: garbage",
      { keyfile: file("garbage") },
      /garbage \(--etcd-keyfile\) holds no private key/,
    ],
    ["key: a folder", { keyfile: folder }, /cannot read the client key .*--etcd-keyfile/],
    ["swapped", { certfile: key, keyfile: cert }, /--etcd-keyfile swapped\?/],
    ["certificate: DER", { certfile: file("der") }, /der \(--etcd-certfile\) .* -inform der/],
    ["certificate: torn", { certfile: file("torn") }, /torn \(--etcd-certfile\) holds a damaged/],
    [
      "another name",
      { endpoints: [endpoint.replace("127.0.0.1", "localhost")] },
      /a certificate that does not cover localhost/,
    ],
    [
      "http",
      { endpoints: [endpoint.replace("https", "http")] },
      /http:\/\/127\.0\.0\.1:\d+ speaks TLS: use https:\/\//,
    ],
  ];
  for (const [name, options, message] of wrong) {
    assert.match(await complaint(bench, options), message, name);
  }
});

Deno.test("https against an etcd without TLS: certificates are not to blame", async () => {
  await using bench = await Bench.start(NETWORK);
  const endpoints = [bench.etcd.endpoint.replace("http", "https")];
  const line = await complaint(bench, { endpoints });
  assert.match(line, /https:\/\/127\.0\.0\.1:\d+ speaks HTTP without TLS: use http:\/\//);
  assert.doesNotMatch(line, /certificate|--etcd-cafile/);
});

Deno.test("a server that is not etcd is told from one that cannot be reached", async () => {
  await using bench = await Bench.start(NETWORK);
  const page = new TextEncoder().encode("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  const banner = new TextEncoder().encode("SSH-2.0-OpenSSH_9.2\r\n");
  for (
    const [scheme, greeting, answer, expected] of [
      [
        "http",
        undefined,
        page,
        /http:\/\/127\S+ answers, but not as etcd: check the host and port/,
      ],
      ["http", banner, undefined, /answers, but not as etcd: check the host and port/],
      ["https", banner, undefined, /answers, but not as etcd: check the host and port/],
      ["https", undefined, page, /speaks HTTP without TLS/],
    ] as const
  ) {
    await using server = serve(greeting, answer);
    const endpoints = [`${scheme}://127.0.0.1:${server.port}`];
    assert.match(await complaint(bench, { endpoints }), expected, `${scheme} ${expected}`);
  }
});

/** A server that sends a greeting at once, and an answer once it has read something. */
function serve(greeting?: Uint8Array, answer?: Uint8Array): AsyncDisposable & { port: number } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const talk = async (connection: Deno.Conn) => {
    try {
      if (greeting) await connection.write(greeting);
      await connection.read(new Uint8Array(1024));
      if (answer) await connection.write(answer);
    } catch {
      // The other side is gone.
    } finally {
      connection.close();
    }
  };
  const serving = (async () => {
    for await (const connection of listener) talk(connection);
  })();
  return {
    port: listener.addr.port,
    [Symbol.asyncDispose]: async () => {
      listener.close();
      await serving;
    },
  };
}

Deno.test("of several endpoints the errors of each are shown, in their order", async () => {
  await using bench = await Bench.start(NETWORK, { tls: true });
  const dead = `http://127.0.0.1:${freePort()}`;
  const line = await complaint(bench, {
    endpoints: [dead, "http://no-such-host.invalid:2379", bench.etcd.endpoint],
    certfile: undefined,
    keyfile: undefined,
  });
  assert.match(
    line,
    new RegExp(
      `etcd at ${dead} is unreachable: .*ECONNREFUSED.*; ` +
        "etcd at http://no-such-host.invalid:2379 is unreachable: .*does not resolve; " +
        `etcd at ${bench.etcd.endpoint} requires a client certificate`,
    ),
  );
});

Deno.test("a first start that loses etcd does not speak of peers, which it has none of", async () => {
  await using bench = await Bench.start(NETWORK);
  const manager = bench.manager();
  const network = await manager.networkConfig(bench.signal);
  await bench.etcd.stop();
  const attrs = { publicIP: "192.0.2.1", publicIPv6: null, backendType: "vxlan" };
  const limit = AbortSignal.timeout(2_000);
  // The snapshot that came with the config is not enough for a claim.
  await assert.rejects(manager.acquire(network, attrs, limit), { name: "TimeoutError" });
  assert.equal(bench.count(/unreachable.*; retrying until it answers/), 1);
  assert.equal(bench.count(/last known peers/), 0);
});

Deno.test("user and password: ours work, also after a restart; wrong ones get one line", async () => {
  const auth = { username: "flannel", password: "s3cret-pass" };
  await using bench = await Bench.start(undefined, { auth });
  await bench.putConfig(NETWORK);
  const followed = bench.run(await bench.node(1));
  await followed.until();
  const wrong = {
    "wrong password": { password: "wr0ng-pass" },
    "no user": { username: undefined },
  };
  for (const [name, options] of Object.entries(wrong)) {
    bench.logged.length = 0;
    const limit = AbortSignal.timeout(2_000);
    await assert.rejects(bench.manager(options).networkConfig(limit), { name: "TimeoutError" });
    assert.equal(bench.logged.length, 1, `${name}: ${bench.logged.join("\n")}`);
    assert.match(bench.logged[0], /--etcd-username and --etcd-password/, name);
    if (name === "wrong password") assert.match(bench.logged[0], /rejects the user "flannel":/);
    assert(!/s3cret|wr0ng/.test(bench.logged[0]));
  }
  // A restart forgets all tokens.
  await bench.etcd.stop();
  await bench.etcd.restart();
  await bench.putLease("10.1.5.0-24", value(5));
  await followed.until("10.1.5.0-24");
});

Deno.test("a user for an etcd without authentication is told to be removed", async () => {
  await using bench = await Bench.start(NETWORK);
  const line = await complaint(bench, { username: "flannel", password: "s3cret-pass" });
  assert.match(line, /rejects the login as "flannel": .*; remove --etcd-username/);
});

Deno.test("a user without a role is quoted in the line about it", async () => {
  const auth = { username: "flannel", password: "s3cret-pass" };
  await using bench = await Bench.start(undefined, { auth });
  await bench.putConfig(NETWORK);
  await bench.etcd.ctl("user", "add", "no:s3cret-pass");
  const line = await complaint(bench, { username: "no" });
  assert.match(line, /denies the user "no" access: .*grant the user a role/);
});

Deno.test("no config, then a wrong one, then a good one: each is told once", async () => {
  await using bench = await Bench.start();
  const config = bench.manager().networkConfig(bench.signal);
  await waitFor(() =>
    bench.count(/There is no network config in etcd under \/coreos\.com\/network\/config/) > 0
  );
  await bench.putConfig({ ...NETWORK, SubnetLen: 99 });
  await waitFor(() => bench.count(/is invalid: SubnetLen: 99/) > 0);
  await bench.putConfig(NETWORK);
  assert.equal(`${(await config).ipv4?.network}`, "10.1.0.0/16");
  assert.equal(bench.logged.length, 2, bench.logged.join("\n"));
});

Deno.test("an aborted wait ends at once", async () => {
  await using bench = await Bench.start();
  const manager = bench.manager({ endpoints: [`http://127.0.0.1:${freePort()}`] });
  const stop = new AbortController();
  const waiting = manager.networkConfig(stop.signal);
  await waitFor(() => bench.count(/unreachable/) > 0);
  const began = performance.now();
  stop.abort();
  await assert.rejects(waiting, { name: "AbortError" });
  assert(performance.now() - began < 100);
  assert.equal(manager.lastContact, 0);
});
