import assert from "node:assert/strict";
import { nameOf, proxyFor, serverOf } from "./http_proxy.ts";

/** What is said of the proxy for a URL: its name, or that the request goes straight. */
function way(url: string, env: Record<string, string>): string {
  return proxyFor(serverOf(new URL(url)), (name) => env[name])?.name ?? "straight";
}

const EC2 = "https://ec2.eu-central-1.amazonaws.com/";

Deno.test("the proxy of the URL's protocol, in either case, with a default port", () => {
  const proxy = "http://proxy.corp:3128";
  const cases: [url: string, env: Record<string, string>, way: string][] = [
    [EC2, {}, "straight"],
    [EC2, { HTTPS_PROXY: proxy }, "the proxy proxy.corp:3128 (HTTPS_PROXY)"],
    [EC2, { https_proxy: proxy }, "the proxy proxy.corp:3128 (https_proxy)"],
    [EC2, { HTTPS_PROXY: "", https_proxy: proxy }, "the proxy proxy.corp:3128 (https_proxy)"],
    [
      EC2,
      { HTTPS_PROXY: proxy, https_proxy: "http://other" },
      "the proxy proxy.corp:3128 (HTTPS_PROXY)",
    ],
    [EC2, { HTTP_PROXY: proxy, http_proxy: proxy }, "straight"],
    ["http://ec2.test/", { HTTPS_PROXY: proxy }, "straight"],
    ["http://ec2.test/", { http_proxy: proxy }, "the proxy proxy.corp:3128 (http_proxy)"],
    [EC2, { HTTPS_PROXY: "proxy.corp:3128" }, "the proxy proxy.corp:3128 (HTTPS_PROXY)"],
    [EC2, { HTTPS_PROXY: " http://proxy.corp/ " }, "the proxy proxy.corp (HTTPS_PROXY)"],
    [EC2, { HTTPS_PROXY: "https://proxy.corp" }, "the proxy proxy.corp (HTTPS_PROXY)"],
    [EC2, { HTTPS_PROXY: "HTTP://[fd00::1]:8080" }, "the proxy [fd00::1]:8080 (HTTPS_PROXY)"],
  ];
  for (const [url, env, expected] of cases) {
    assert.equal(way(url, env), expected, `${url} ${JSON.stringify(env)}`);
  }
});

Deno.test("NO_PROXY: domains, addresses, subnets and ports", () => {
  const cases: [url: string, except: string, straight: boolean][] = [
    [EC2, "*", true],
    [EC2, "amazonaws.com", true],
    [EC2, ".amazonaws.com", true],
    [EC2, "*.amazonaws.com", true],
    [EC2, "AmazonAWS.com.", true],
    [EC2, "ec2.eu-central-1.amazonaws.com", true],
    [EC2, "localhost, 10.0.0.0/8 ,.amazonaws.com", true],
    [EC2, "localhost 169.254.169.254 amazonaws.com", true],
    [EC2, "ec2.eu-central-1.amazonaws.com:443", true],
    [EC2, "ec2.eu-central-1.amazonaws.com:80", false],
    [EC2, "amazonaws.com:443", true],
    [EC2, "aws.com", false],
    [EC2, "central-1.amazonaws.com", false],
    [EC2, "eu-central-1.amazonaws.co", false],
    [EC2, "", false],
    [EC2, " , ,", false],
    [EC2, ".", false],
    ["https://amazonaws.com/", ".amazonaws.com", true],
    ["https://10.1.2.3/", "10.1.2.3", true],
    ["https://10.1.2.3/", "10.1.2.4", false],
    ["https://10.1.2.3/", "10.0.0.0/8", true],
    ["https://10.1.2.3/", "10.1.2.0/24", true],
    ["https://10.1.2.3/", "10.1.3.0/24", false],
    ["https://10.1.2.3:8443/", "10.1.2.3:8443", true],
    ["https://10.1.2.3:8443/", "10.1.2.3:443", false],
    ["https://10.1.2.3/", "2.3", false],
    ["https://10.1.2.3/", "10.1.2.0/99", false],
    ["https://[fd00::1]/", "fd00::1", true],
    ["https://[fd00::1]/", "fd00:0::0:1", true],
    ["https://[fd00::1]/", "[fd00::1]:443", true],
    ["https://[fd00::1]/", "[fd00::1]", true],
    ["https://[fd00::1]/", "fd00::/8", true],
    ["https://[fd00::1]/", "fd00::2", false],
    [EC2, "10.0.0.0/8,fd00::/8,[", false],
  ];
  for (const [url, except, straight] of cases) {
    for (const variable of ["NO_PROXY", "no_proxy"]) {
      const found = way(url, { HTTPS_PROXY: "http://proxy", [variable]: except });
      assert.equal(found === "straight", straight, `${url} ${variable}=${except}: ${found}`);
    }
  }
});

Deno.test("user and password of the URL, with and without escapes", () => {
  const cases: [userinfo: string, credentials: string | undefined][] = [
    ["user:pass@", "user:pass"],
    ["user@", "user:"],
    ["us%40er:p%3A%2F%20w@", "us@er:p:/ w"],
    ["user:100%@", "user:100%"],
    ["üser:pässword@", "üser:pässword"],
    ["", undefined],
  ];
  for (const [userinfo, credentials] of cases) {
    const env = { HTTPS_PROXY: `http://${userinfo}proxy:3128` };
    const { authorization, name } = proxyFor(
      serverOf(new URL(EC2)),
      (variable) => env[variable as "HTTPS_PROXY"],
    )!;
    const sent = authorization && new TextDecoder().decode(
      Uint8Array.from(atob(authorization.replace(/^Basic /, "")), (byte) => byte.charCodeAt(0)),
    );
    assert.equal(sent, credentials);
    assert.equal(name, "the proxy proxy:3128 (HTTPS_PROXY)");
  }
});

Deno.test("what is no proxy's URL is refused without showing it", () => {
  const cases: [value: string, message: string][] = [
    ["http://user:secret@", "HTTPS_PROXY is not a URL"],
    ["http://user:secret@proxy:port", "HTTPS_PROXY is not a URL"],
    ["user:secret@pro xy", "HTTPS_PROXY is not a URL"],
    [
      "http://user:12/secret@proxy:3128",
      "HTTPS_PROXY has an @ in the wrong place (write special characters of a password as %XX)",
    ],
    [
      "socks5://user:secret@proxy:1080",
      "HTTPS_PROXY names a proxy of the kind socks5, which is not supported",
    ],
  ];
  for (const [value, message] of cases) {
    assert.throws(() => way(EC2, { HTTPS_PROXY: value }), {
      name: "TransportError",
      code: "Proxy",
      message,
      fix: "set it to a URL like http://proxy:3128",
    });
  }
});

Deno.test("a server's name has its port unless its protocol implies it", () => {
  for (
    const [url, name] of [
      [EC2, "ec2.eu-central-1.amazonaws.com"],
      ["https://ec2.test:4566/", "ec2.test:4566"],
      ["http://ec2.test:443/", "ec2.test:443"],
      ["https://[fd00::1]/", "[fd00::1]"],
      ["https://[fd00::1]:8443/", "[fd00::1]:8443"],
    ]
  ) {
    assert.equal(nameOf(serverOf(new URL(url))), name);
  }
});
