/** What the aws-vpc backend's requests come to: real servers, certificates and proxies. */
import assert from "node:assert/strict";
import { createServer as createTlsServer } from "node:https";
import { createServer, type Server as TcpServer, type Socket } from "node:net";
import { HttpRequest } from "@smithy/core/protocols";
import { awsRequestHandler } from "../../backends/awsvpc/http.ts";
import type { TransportError } from "../../backends/awsvpc/http_errors.ts";
import { certificate, certificateAuthority, type TlsFiles } from "../../testbed/certificates.ts";
import { ConnectProxy } from "../../testbed/connect_proxy.ts";
import { run, waitFor } from "../../testbed/netns.ts";

const folder = Deno.makeTempDirSync({ prefix: "aws-http-" });
let authority: TlsFiles;
let server: Deno.HttpServer<Deno.NetAddr>;
/** Requests that came to the server. */
let requests: Request[] = [];
/** How it answers. */
let answer: (request: Request) => Response | Promise<Response>;

Deno.test.beforeAll(async () => {
  authority = await certificateAuthority(folder, "authority");
  server = serve(await certificate(folder, "server", authority, ["127.0.0.1", "ec2.test"]));
});
Deno.test.beforeEach(() => {
  requests = [];
  answer = () => new Response("well");
});
Deno.test.afterAll(async () => {
  await server.shutdown();
  await Deno.remove(folder, { recursive: true });
});

function serve({ cert, key }: TlsFiles): Deno.HttpServer<Deno.NetAddr> {
  const tls = { cert: Deno.readTextFileSync(cert), key: Deno.readTextFileSync(key) };
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {}, ...tls }, (request) => {
    requests.push(request);
    return answer(request);
  });
}

/** What to do where a server, or a proxy, is not there. */
const WAY_FIX =
  "give this subnet a way there: an internet or NAT gateway, a VPC endpoint for the " +
  "service, or a proxy in HTTPS_PROXY";
const PROXY_FIX = "check the proxy, and the variable that names it";

/** A TCP server that is no HTTP server. */
async function tcp(then: (socket: Socket) => void): Promise<AsyncDisposable & { port: number }> {
  const sockets = new Set<Socket>();
  const listener: TcpServer = createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    then(socket);
  });
  await new Promise<void>((done) => listener.listen(0, "127.0.0.1", done));
  const { port } = listener.address() as { port: number };
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => listener.close(done));
    },
  };
}

/** Trusts the tests' authority; more variables, or others, by `env`. */
function variables(env: Record<string, string> = {}): Record<string, string> {
  return { AWS_CA_BUNDLE: authority.cert, ...env };
}

/** Sends one request; gives status and text of the answer. */
async function ask(url: string, env = variables(), abortSignal?: AbortSignal): Promise<string> {
  const handler = awsRequestHandler((name) => env[name]);
  try {
    return await askBy(handler, url, abortSignal);
  } finally {
    handler.destroy();
  }
}

async function askBy(
  handler: ReturnType<typeof awsRequestHandler>,
  url: string,
  abortSignal?: AbortSignal,
): Promise<string> {
  const { protocol, hostname, port, pathname, host } = new URL(url);
  const request = new HttpRequest({
    ...{ method: "POST", protocol, hostname, path: pathname, body: "Action=Describe" },
    port: port ? Number(port) : undefined,
    headers: { host },
  });
  const { response } = await handler.handle(request, { abortSignal });
  const text = new TextDecoder();
  let body = "";
  for await (const chunk of response.body) body += text.decode(chunk);
  return `${response.statusCode} ${body}`;
}

/** Code and message of what a request fails with, and what to do. */
async function failure(
  url: string,
  env = variables(),
): Promise<[code: string, message: string, fix: string | undefined]> {
  const error = await ask(url, env).then(assert.fail, (error: TransportError) => error);
  assert.equal(error.name, "TransportError");
  return [error.code, error.message, error.fix];
}

function url(host = "127.0.0.1", port = server.addr.port): string {
  return `https://${host}:${port}/`;
}

Deno.test("a server that AWS_CA_BUNDLE vouches for, on one connection for several calls", async () => {
  const handler = awsRequestHandler((name) => variables()[name]);
  assert.equal(await askBy(handler, url()), "200 well");
  assert.equal(await askBy(handler, url()), "200 well");
  handler.destroy();
  assert.equal(requests.length, 2);
});

Deno.test("the system's store, as far as the environment says where it is", async () => {
  const certs = `${folder}/certs`;
  await Deno.mkdir(certs);
  await Deno.copyFile(authority.cert, `${certs}/authority.pem`);
  assert.equal(await ask(url(), { SSL_CERT_FILE: authority.cert }), "200 well");
  assert.equal(await ask(url(), { SSL_CERT_DIR: `/nowhere:${certs}` }), "200 well");
  // AWS's own setting is all that counts where it is set.
  const other = await certificateAuthority(folder, "other");
  const env = { AWS_CA_BUNDLE: other.cert, SSL_CERT_FILE: authority.cert, SSL_CERT_DIR: certs };
  const [code, message] = await failure(url(), env);
  assert.equal(code, "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
  assert.ok(message.includes(`AWS_CA_BUNDLE (${other.cert})`), message);
});

Deno.test("a certificate of an authority that is not trusted", async () => {
  const [code, message, fix] = await failure(url(), {});
  assert.equal(code, "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
  assert.match(
    message,
    /^no authority in \/etc\/\S+ has signed the certificate of 127\.0\.0\.1:\d+ \(.*\)$/,
  );
  assert.match(fix!, /name the PEM file of its authority in AWS_CA_BUNDLE$/);
  // The runtime's own settings for that change nothing.
  Deno.env.set("NODE_TLS_REJECT_UNAUTHORIZED", "0");
  try {
    assert.equal((await failure(url(), {}))[0], code);
  } finally {
    Deno.env.delete("NODE_TLS_REJECT_UNAUTHORIZED");
  }
  assert.equal(requests.length, 0);
});

Deno.test("a certificate for another name, and one whose time is over", async () => {
  const [name, forOthers] = await failure(url("localhost"));
  assert.equal(name, "ERR_TLS_CERT_ALTNAME_INVALID");
  assert.match(forOthers, /^the certificate of localhost:\d+ does not cover that name \(/);

  const old = await certificate(folder, "old", authority, ["127.0.0.1"], { days: -1 });
  await using late = serve(old);
  const [time, expired, clock] = await failure(url("127.0.0.1", late.addr.port));
  assert.equal(time, "CERT_HAS_EXPIRED");
  assert.match(
    expired,
    /^the certificate of 127\.0\.0\.1:\d+ is not valid now \(.*expired\)$/,
  );
  assert.equal(clock, "check this node's clock (timedatectl)");
});

Deno.test("what AWS_CA_BUNDLE may not name is one line that names it", async () => {
  const write = async (name: string, text: string) => {
    await Deno.writeTextFile(`${folder}/${name}`, text);
    return `${folder}/${name}`;
  };
  const good = await Deno.readTextFile(authority.cert);
  await run("mkfifo", [`${folder}/fifo`]);
  const cases: [path: string, message: RegExp][] = [
    [`${folder}/none.pem`, /which does not exist$/],
    [`${authority.cert}/none.pem`, /which cannot be read \(.*\)$/],
    [folder, /which is not a file$/],
    [`${folder}/fifo`, /which is not a file$/],
    ["/dev/null", /which has no certificate in PEM form$/],
    [await write("empty", ""), /which has no certificate in PEM form$/],
    [await write("der", "\x30\x82\x01"), /which has no certificate in PEM form$/],
    [authority.key, /which has no certificate in PEM form$/],
    [
      await write("cut", `${good}${good.replace(/\n[^\n]*\n-----END/, "\n-----END")}`),
      /which is damaged: certificate 2 in it cannot be decoded$/,
    ],
    [
      await write("scrambled", good.replace(/\n..../, "\n????")),
      /which is damaged: certificate 1 in it cannot be decoded$/,
    ],
  ];
  for (const [path, expected] of cases) {
    const [code, message, fix] = await failure(url(), { AWS_CA_BUNDLE: path });
    assert.match(
      code,
      /^(NotFound|Error|NotADirectory|NotAFile|NoCertificates|DamagedCertificate)$/,
    );
    assert.ok(message.startsWith(`AWS_CA_BUNDLE names ${JSON.stringify(path)}, which `), message);
    assert.match(message, expected);
    assert.doesNotMatch(message, /\n|--allow/);
    assert.match(fix!, /^name a PEM file/);
  }
  const [, message] = await failure(url(), { SSL_CERT_FILE: `${folder}/none.pem` });
  assert.match(message, /^SSL_CERT_FILE names ".*none\.pem", which does not exist$/);
});

Deno.test("a bundle that is replaced counts for the next connection", async () => {
  const bundle = `${folder}/bundle.pem`;
  const other = await certificateAuthority(folder, "former");
  await Deno.copyFile(other.cert, bundle);
  const handler = awsRequestHandler((name) => name === "AWS_CA_BUNDLE" ? bundle : undefined);
  await assert.rejects(askBy(handler, url()), { name: "TransportError" });
  await Deno.writeTextFile(
    bundle,
    `# ours\n${await Deno.readTextFile(authority.cert)}\n${await Deno.readTextFile(other.cert)}`,
  );
  assert.equal(await askBy(handler, url()), "200 well");
  handler.destroy();
});

Deno.test("servers that are not there, speak no TLS or end the connection", async () => {
  const silent = await tcp(() => {});
  await silent[Symbol.asyncDispose]();
  assert.deepEqual(await failure(url("127.0.0.1", silent.port)), [
    "ECONNREFUSED",
    `127.0.0.1:${silent.port}: connect ECONNREFUSED 127.0.0.1:${silent.port}`,
    WAY_FIX,
  ]);
  const [dns, unknown, way] = await failure("https://ec2.nowhere.invalid/");
  assert.match(dns, /^(ENOTFOUND|EAI_AGAIN)$/);
  assert.equal(way, WAY_FIX);
  assert.match(unknown, /^the name of ec2\.nowhere\.invalid cannot be resolved \(/);
  await using plain = await tcp((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  const [version, noTls] = await failure(url("127.0.0.1", plain.port));
  assert.equal(version, "ERR_SSL_WRONG_VERSION_NUMBER");
  assert.match(noTls, /^127\.0\.0\.1:\d+ does not speak TLS$/);
  await using closing = await tcp((socket) => socket.destroy());
  const [, closed] = await failure(url("127.0.0.1", closing.port));
  assert.match(closed, new RegExp(`^127\\.0\\.0\\.1:${closing.port}: `));
});

Deno.test("no connection within 5 s, with and without TLS, and no waiting once it is aborted", async () => {
  await using mute = await tcp(() => {});
  const begin = performance.now();
  const [code, message] = await failure(url("127.0.0.1", mute.port));
  const took = performance.now() - begin;
  assert.ok(took > 4_500 && took < 8_000, `${took} ms`);
  assert.equal(code, "ETIMEDOUT");
  assert.equal(message, `127.0.0.1:${mute.port}: no connection within 5 s`);

  // An answer may take longer than that.
  answer = async () => {
    await new Promise((done) => setTimeout(done, 6_000));
    return new Response("late");
  };
  assert.equal(await ask(url()), "200 late");

  const never = Promise.withResolvers<Response>();
  answer = () => never.promise;
  for (const target of [url("127.0.0.1", mute.port), url()]) {
    const abort = new AbortController();
    const asked = ask(target, variables(), abort.signal);
    setTimeout(() => abort.abort(), 200);
    const before = performance.now();
    await assert.rejects(asked, { name: "AbortError" });
    assert.ok(performance.now() - before < 2_000, target);
  }
  never.resolve(new Response());
});

Deno.test("a redirection leads nowhere", async () => {
  await using elsewhere = await tcp((socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
  const location = `http://127.0.0.1:${elsewhere.port}/`;
  answer = () => new Response(null, { status: 307, headers: { location } });
  await assert.rejects(ask(url()), /redirects requests to http:.* \(status code: 307\)/);
  assert.equal(requests.length, 1);
});

Deno.test("through a proxy by CONNECT, unless NO_PROXY has the host", async () => {
  await using proxy = await ConnectProxy.start(server.addr.port);
  const target = "https://ec2.test/";
  for (const variable of ["HTTPS_PROXY", "https_proxy"]) {
    const env = variables({ [variable]: `http://127.0.0.1:${proxy.port}` });
    assert.equal(await ask(target, env), "200 well");
  }
  const connect = { method: "CONNECT", target: "ec2.test:443", authorization: undefined };
  assert.deepEqual(proxy.requests.splice(0), [connect, connect]);
  const straight = variables({ HTTPS_PROXY: `127.0.0.1:${proxy.port}`, no_proxy: "127.0.0.0/8" });
  assert.equal(await ask(url(), straight), "200 well");
  assert.deepEqual(proxy.requests, []);
  // The name is checked behind the proxy, too.
  const env = variables({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` });
  const [code, message] = await failure("https://sts.test/", env);
  assert.equal(code, "ERR_TLS_CERT_ALTNAME_INVALID");
  assert.match(message, /^the certificate of sts\.test does not cover that name \(/);
  assert.match((await failure(target, { ...env, AWS_CA_BUNDLE: "" }))[1], /^no authority in \/etc/);
});

Deno.test("a proxy with a password, and one that refuses: the line names it, not the password", async () => {
  await using proxy = await ConnectProxy.start(server.addr.port);
  proxy.credentials = "us@er:pass:word/";
  const target = "https://ec2.test/";
  const at = (userinfo: string) =>
    variables({ HTTPS_PROXY: `http://${userinfo}127.0.0.1:${proxy.port}` });
  assert.equal(await ask(target, at("us%40er:pass%3Aword%2F@")), "200 well");
  const name = `the proxy 127.0.0.1:${proxy.port} (HTTPS_PROXY)`;
  for (const userinfo of ["", "us%40er:wrong@"]) {
    assert.deepEqual(await failure(target, at(userinfo)), [
      "Proxy.407",
      `${name} refuses a connection to ec2.test (407 No)`,
      "put a user and password that it accepts into its URL, http://USER:PASSWORD@HOST:PORT",
    ]);
  }
  for (const status of [403, 502]) {
    proxy.refusal = status;
    assert.deepEqual(await failure(target, at("us%40er:secret@")), [
      `Proxy.${status}`,
      `${name} refuses a connection to ec2.test (${status} No)`,
      "allow the host there, or exclude it with NO_PROXY",
    ]);
  }
  proxy.refusal = 0;
  assert.deepEqual(await failure(target, at("user:secret@")), [
    "Proxy.ETIMEDOUT",
    `${name}: no connection within 5 s`,
    PROXY_FIX,
  ]);
});

Deno.test("what is no proxy", async () => {
  const target = "https://ec2.test/";
  const by = (proxy: string) => failure(target, variables({ HTTPS_PROXY: proxy }));
  await using closing = await tcp((socket) => socket.destroy());
  await using other = await tcp((socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n"));
  const refusing = await tcp(() => {});
  await refusing[Symbol.asyncDispose]();
  for (const { port } of [closing, other, refusing]) {
    const [, message] = await by(`http://user:secret@127.0.0.1:${port}`);
    assert.ok(message.startsWith(`the proxy 127.0.0.1:${port} (HTTPS_PROXY): `), message);
    assert.doesNotMatch(message, /secret/);
  }
  assert.match(
    (await by("http://user:secret@proxy.invalid:3128"))[1],
    /^the name of the proxy proxy\.invalid:3128 \(HTTPS_PROXY\) cannot be resolved \(/,
  );
  assert.match((await by("http://user:secret@"))[1], /^HTTPS_PROXY is not a URL$/);
});

Deno.test("a proxy that is reached over TLS", async () => {
  await using proxy = await ConnectProxy.start(server.addr.port, {
    ...await certificate(folder, "proxy", authority, ["127.0.0.1"]),
  });
  const at = (host: string) => variables({ HTTPS_PROXY: `https://${host}:${proxy.port}` });
  assert.equal(await ask("https://ec2.test/", at("127.0.0.1")), "200 well");
  assert.equal(proxy.requests.length, 1);
  const [code, message] = await failure("https://ec2.test/", at("localhost"));
  assert.equal(code, "Proxy.ERR_TLS_CERT_ALTNAME_INVALID");
  assert.match(
    message,
    /^the certificate of the proxy localhost:\d+ \(HTTPS_PROXY\) does not cover/,
  );
});

Deno.test("an endpoint without TLS goes straight, or through HTTP_PROXY as a whole URL", async () => {
  await using plain = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => new Response(`${request.headers.get("host")} ${await request.text()}`),
  );
  const { port } = plain.addr;
  const expected = `200 127.0.0.1:${port} Action=Describe`;
  const target = `http://127.0.0.1:${port}/`;
  assert.equal(await ask(target, { HTTPS_PROXY: "http://proxy.invalid" }), expected);
  await using proxy = await ConnectProxy.start(port);
  proxy.credentials = "user:pass";
  const env = { http_proxy: `http://user:pass@127.0.0.1:${proxy.port}` };
  assert.match(await ask("http://ec2.test/path", env), /^200 .* Action=Describe$/);
  assert.deepEqual(proxy.requests.splice(0), [{
    method: "POST",
    target: "http://ec2.test/path",
    authorization: `Basic ${btoa("user:pass")}`,
  }]);
  assert.equal(await ask(target, { ...env, NO_PROXY: "127.0.0.1" }), expected);
  assert.deepEqual(proxy.requests, []);
  const [code] = await failure(target, { HTTP_PROXY: `http://127.0.0.1:${proxy.port}` });
  assert.equal(code, "Proxy.407");
  const gone = await tcp(() => {});
  await gone[Symbol.asyncDispose]();
  const name = `the proxy 127.0.0.1:${gone.port} (HTTP_PROXY)`;
  const [refused, reason, fix] = await failure(target, {
    HTTP_PROXY: `http://127.0.0.1:${gone.port}`,
  });
  assert.equal(refused, "Proxy.ECONNREFUSED");
  assert.ok(reason.startsWith(`${name}: `), reason);
  assert.equal(fix, PROXY_FIX);
});

Deno.test("a connection that nobody uses is closed, and the next call has another", async () => {
  const { cert, key } = await certificate(folder, "idle", authority, ["127.0.0.1"]);
  const listener = createTlsServer(
    { cert: await Deno.readTextFile(cert), key: await Deno.readTextFile(key) },
    (_request, response) => void response.end("well"),
  );
  // The server would keep it for longer.
  listener.keepAliveTimeout = 60_000;
  let open = 0;
  listener.on("secureConnection", (socket) => {
    open++;
    socket.on("close", () => open--);
  });
  await new Promise<void>((done) => listener.listen(0, "127.0.0.1", done));
  const { port } = listener.address() as { port: number };
  const handler = awsRequestHandler((name) => variables()[name]);
  for (let call = 0; call < 2; call++) {
    for (let i = 0; i < 2; i++) {
      assert.equal(await askBy(handler, url("127.0.0.1", port)), "200 well");
      assert.equal(open, 1);
    }
    if (call === 0) await waitFor(() => open === 0, { limitMs: 20_000, what: "its end" });
  }
  handler.destroy();
  await new Promise((done) => listener.close(done));
});

Deno.test("an open connection keeps no process from its end", async () => {
  const program = `
    const { awsRequestHandler } = await import("./backends/awsvpc/http.ts");
    const [hostname, port] = Deno.args;
    const { response } = await awsRequestHandler().handle({
      ...{ protocol: "https:", method: "GET", hostname, port: Number(port), path: "/" },
      headers: {},
    });
    for await (const chunk of response.body) console.log(new TextDecoder().decode(chunk));
  `;
  const begin = performance.now();
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", program, "127.0.0.1", `${server.addr.port}`],
    cwd: new URL("../..", import.meta.url).pathname,
    env: variables(),
  }).output();
  assert.equal(new TextDecoder().decode(stdout), "well\n");
  assert.ok(performance.now() - begin < 4_000, `${performance.now() - begin} ms`);
});

Deno.test("what answers in AWS's place is named for what it is", async () => {
  const url = `https://127.0.0.1:${server.addr.port}/`;
  const page = { headers: { "content-type": "text/html; charset=utf-8" } };
  const cases: [answer: () => Response, reason: RegExp][] = [
    [() => new Response("<html/>", page), /answers with a web page \(status code: 200\)/],
    [
      () => new Response("<p>", { status: 403, ...page }),
      /answers with a web page \(status code: 403\)/,
    ],
    [() => new Response("", { status: 407 }), /asks for a proxy's user and password/],
    [() => new Response(""), /the answer of 127\.0\.0\.1:\d+ is empty/],
    [
      () => new Response(null, { status: 307, headers: { location: "https://login.test/" } }),
      /redirects requests to https:\/\/login\.test\/ \(status code: 307\)/,
    ],
    [() => new Response(new Uint8Array(33_000_000)), /has more than 32000000 bytes/],
  ];
  for (const [given, reason] of cases) {
    answer = given;
    await assert.rejects(ask(url), (error: TransportError) => {
      assert.match(error.message, reason);
      assert.match(error.fix ?? "", /^check AWS_ENDPOINT_URL_EC2, and whether a proxy/);
      return true;
    });
  }
});

Deno.test("an answer that does not end is not waited for", async () => {
  await using stuck = await tcp((socket) => {
    socket.once("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"));
  });
  await assert.rejects(ask(`http://127.0.0.1:${stuck.port}/`), /has not ended within 20 s/);
});
