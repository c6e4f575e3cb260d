import assert from "node:assert/strict";
import { UsageError } from "../agent/errors.ts";
import { agentOptions } from "./agent_options.ts";
import { ignoredFlagsLine } from "./logger_flags.ts";
import { nearest } from "../base/nearest.ts";
import { parseFlags, resolveFlags, type Settings } from "./parse.ts";

function settings(args: string[], env: Record<string, string> = {}): Settings {
  const { given, rest } = parseFlags(args);
  assert.deepEqual(rest, []);
  return resolveFlags(given, (name) => env[name]);
}

function refused(args: string[], message: string, env: Record<string, string> = {}): void {
  assert.throws(() => agentOptions(settings(args, env)), new UsageError(message));
}

Deno.test("one dash and two, = and a separate value mean the same", () => {
  for (
    const args of [
      ["-etcd-prefix=/a=b"],
      ["--etcd-prefix=/a=b"],
      ["-etcd-prefix", "/a=b"],
      ["--etcd-prefix", "/a=b"],
    ]
  ) assert.equal(settings(args).values["etcd-prefix"], "/a=b");
});

Deno.test("a value may begin with a dash", () => {
  assert.equal(settings(["--etcd-password", "-x"]).values["etcd-password"], "-x");
});

Deno.test("a boolean takes no separate value", () => {
  assert.deepEqual(parseFlags(["-ip-masq", "false"]).rest, ["false"]);
  assert.equal(settings(["-ip-masq", "-v", "2"]).values["ip-masq"], true);
});

Deno.test("Go's boolean words, and no others", () => {
  for (const word of ["1", "t", "T", "true", "TRUE", "True"]) {
    assert.equal(settings([`--ip-masq=${word}`]).values["ip-masq"], true, word);
  }
  for (const word of ["0", "f", "F", "false", "FALSE", "False"]) {
    assert.equal(
      settings([`--iptables-forward-rules=${word}`]).values["iptables-forward-rules"],
      false,
      word,
    );
  }
  refused(
    ["--ip-masq=yes"],
    'invalid value "yes" for --ip-masq: not a boolean (true or false)',
  );
});

Deno.test("a list keeps each entry in order; another flag its last value", () => {
  const { values } = settings(["-iface=eth0", "--iface", "eth1", "-v=1", "-v=3"]);
  assert.deepEqual(values.iface, ["eth0", "eth1"]);
  assert.equal(values.v, 3);
});

Deno.test("a flag wins over the environment, and an empty variable is none", () => {
  const env = { FLANNELD_ETCD_PREFIX: "/env", FLANNELD_IP_MASQ: "true", FLANNELD_IFACE: "" };
  const { values, origin } = settings(["--etcd-prefix=/flag", "--ip-masq=false"], env);
  assert.equal(values["etcd-prefix"], "/flag");
  assert.equal(values["ip-masq"], false);
  assert.deepEqual(values.iface, []);
  assert.equal(origin("iface"), undefined);
  assert.equal(settings([], env).values["etcd-prefix"], "/env");
});

Deno.test("a list from the environment is one entry", () => {
  assert.deepEqual(settings([], { FLANNELD_IFACE_REGEX: "eth[0,1]" }).values["iface-regex"], [
    "eth[0,1]",
  ]);
});

Deno.test("parsing ends at the first word that is not a flag, and behind --", () => {
  assert.deepEqual(parseFlags(["-v", "1", "config", "-x"]).rest, ["config", "-x"]);
  assert.deepEqual(parseFlags(["--", "-v"]).rest, ["-v"]);
  assert.deepEqual(parseFlags(["-"]).rest, ["-"]);
});

Deno.test("help in each of its forms", () => {
  for (const arg of ["-h", "-help", "--help"]) assert.equal(parseFlags([arg]).help, true, arg);
});

Deno.test("an unknown flag names the nearest", () => {
  assert.throws(
    () => parseFlags(["--etcd-endpoint=http://x"]),
    new UsageError("unknown flag --etcd-endpoint; did you mean --etcd-endpoints?"),
  );
  assert.throws(() => parseFlags(["-qqqqqq"]), new UsageError("unknown flag -qqqqqq; see --help"));
  assert.throws(() => parseFlags(["--iface"]), new UsageError("--iface needs a value"));
  assert.equal(nearest("lease", ["config", "leases"]), "leases");
});

Deno.test("bad values: one line with the value and why", () => {
  const cases: [string, string, string][] = [
    ["subnet-lease-renew-margin", "0", "not in the range 1 to 1439"],
    ["subnet-lease-renew-margin", "1440", "not in the range 1 to 1439"],
    ["subnet-lease-renew-margin", "1h", "not a whole number"],
    ["healthz-port", "65536", "not in the range 0 to 65535"],
    ["healthz-port", "-1", "not in the range 0 to 65535"],
    ["healthz-ip", "localhost", "not an IP address"],
    ["etcd-endpoints", "ftp://nodea", '"ftp://nodea" is not an http:// or https:// URL'],
    ["etcd-endpoints", ",", "names no endpoint"],
    ["etcd-endpoints", "http://a:1/v3", '"http://a:1/v3" has more than a host and a port'],
    ["etcd-endpoints", "nodea:etcd", '"nodea:etcd" is not an http:// or https:// URL'],
    ["etcd-cafile", "/nonexistent", "no such file"],
    ["etcd-cafile", "/proc", "a directory, not a file"],
    ["subnet-file", "/proc", "a directory, not a file"],
    ["public-ip", "10.0.0", "not an IPv4 address"],
    ["public-ip", "010.0.0.1", "not an IPv4 address"],
    ["public-ip", "fd00::1", "not an IPv4 address"],
    ["public-ip", "224.0.0.1", "not a unicast address"],
    ["public-ip", "0.0.0.0", "not a unicast address"],
    ["public-ip", "127.0.0.1", "a loopback address, which peers cannot reach"],
    ["public-ipv6", "10.0.0.1", "not an IPv6 address"],
    ["public-ipv6", "ff02::1", "not a unicast address"],
    ["public-ipv6", "0:0::1", "a loopback address, which peers cannot reach"],
    ["iface-can-reach", "nodea", "not an IP address"],
    ["iface-regex", "(", "unterminated group"],
    ["iptables-resync", "0", "not in the range 1 to 2000000"],
    ["bridge", "a-name-too-long-x", "longer than 15 bytes"],
    ["bridge", "a/b", "not a name for a network device"],
    ["v", "x", "not a whole number"],
  ];
  for (const [name, value, reason] of cases) {
    const quoted = JSON.stringify(value);
    refused([`--${name}=${value}`], `invalid value ${quoted} for --${name}: ${reason}`);
    const variable = `FLANNELD_${name.toUpperCase().replaceAll("-", "_")}`;
    refused([], `invalid value ${quoted} for ${variable}: ${reason}`, { [variable]: value });
  }
});

Deno.test("a password in a URL is not repeated", () => {
  refused(
    ["--etcd-endpoints=http://root:secret@a:1"],
    'invalid value "http://***@a:1" for --etcd-endpoints: user and password belong in flags of ' +
      "their own",
  );
});

Deno.test("an unreadable file is refused, a readable one taken", async () => {
  const file = await Deno.makeTempFile();
  try {
    assert.equal(agentOptions(settings([`--etcd-cafile=${file}`])).store.cafile, file);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("halves of a pair are refused", async () => {
  const file = await Deno.makeTempFile();
  try {
    refused([`--etcd-certfile=${file}`], "--etcd-certfile needs --etcd-keyfile");
    refused([], "FLANNELD_ETCD_KEYFILE needs --etcd-certfile", { FLANNELD_ETCD_KEYFILE: file });
    refused(["--etcd-username=root"], "--etcd-username needs --etcd-password");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("flags of a feature that is not there are refused unless at their default", () => {
  const why = "this version has no leases through the Kubernetes API; do not set it";
  for (const arg of ["kube-subnet-mgr", "kube-api-url=x", "set-node-network-unavailable=false"]) {
    refused([`--${arg}`], `--${arg.split("=")[0]}: ${why}`);
  }
  refused([], `FLANNELD_KUBECONFIG_FILE: ${why}`, { FLANNELD_KUBECONFIG_FILE: "/x" });
  agentOptions(settings([
    "--kube-subnet-mgr=false",
    "--kube-annotation-prefix=flannel.alpha.coreos.com",
    "--set-node-network-unavailable",
  ]));
});

Deno.test("the agent's options", () => {
  const options = agentOptions(settings([
    "--etcd-endpoints=http://a:2379/, https://[fd00::1]:2379",
    "--etcd-prefix=//x//y/",
    "--iface-regex=(?i)^ETH",
    "--ip-masq-fully-random-disable",
    "--subnet-lease-ttl=30",
  ]));
  assert.deepEqual(options.store.endpoints, ["http://a:2379", "https://[fd00::1]:2379"]);
  assert.equal(options.store.prefix, "/x/y");
  assert.equal(options.interface.ifaceRegex[0].test("eth0"), true);
  assert.equal(options.traffic.randomFully, false);
  assert.equal(options.leaseSeconds, 30);
  assert.equal(options.interface.publicIP, undefined);
});

Deno.test("flags of Go flannel's loggers are taken with their values, and named once each", () => {
  const args = ["--vmodule=a=1,b=2", "-log_backtrace_at", "x.go:1", "--logtostderr", "-v=2"];
  const { ignored, given, leading, rest } = parseFlags([
    ...args,
    ...["--alsologtostderr=false", "-stderrthreshold", "INFO", "--log-dir=/var/log", "leases"],
  ]);
  assert.deepEqual(ignored, [
    ...["vmodule", "log_backtrace_at", "logtostderr"],
    ...["alsologtostderr", "stderrthreshold", "log-dir"],
  ]);
  assert.deepEqual([...given], [["v", ["2"]]]);
  assert.deepEqual([leading, rest], [["-v=2"], ["leases"]]);
  const line = ignoredFlagsLine(["vmodule", "log_dir", "vmodule"]);
  assert.match(line ?? "", /^Ignoring --vmodule, --log_dir: /);
  assert.equal(ignoredFlagsLine([]), undefined);
  assert.throws(() => parseFlags(["--vmodule"]), new UsageError("--vmodule needs a value"));
});

Deno.test("a password in an endpoint without a scheme is not repeated either", () => {
  for (const value of ["root:s3cret@a:1", "http://a:1,root:s3c/ret@b:1"]) {
    assert.throws(
      () => agentOptions(settings([`--etcd-endpoints=${value}`])),
      ({ message }: Error) => !/s3c|ret@/.test(message),
    );
  }
});

Deno.test("endpoints get scheme and port; without a scheme certificates make them https", () => {
  const file = import.meta.filename!;
  const endpoints = (...args: string[]) => agentOptions(settings(args)).store.endpoints;
  const list = "--etcd-endpoints=172.31.28.198:2379, HTTP://nodea ,";
  assert.deepEqual(endpoints(list), ["http://172.31.28.198:2379", "http://nodea:2379"]);
  assert.deepEqual(
    endpoints(list, `--etcd-cafile=${file}`),
    ["https://172.31.28.198:2379", "http://nodea:2379"],
  );
});

Deno.test("an empty --iface or --iface-regex is none, as in Go flannel", () => {
  const { iface, ifaceRegex } =
    agentOptions(settings(["--iface=", "--iface-regex=", "--iface=eth1"])).interface;
  assert.deepEqual([iface, ifaceRegex], [["eth1"], []]);
});
