/**
 * The program as a user calls it: exit status and the two outputs, against a real etcd.
 *
 * @module
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Etcd } from "../../testbed/etcd.ts";
import { exec, type Output } from "../../testbed/netns.ts";

const CONFIG = '{"Network":"10.1.0.0/16", "Backend": {"Type": "vxlan"}}';
const KEY = "/coreos.com/network/config";

/** The built program that `FLANNELD_BIN` names, else this checkout's sources, as a command. */
function program(): [string, ...string[]] {
  const built = Deno.env.get("FLANNELD_BIN");
  if (built) return [built];
  const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
  return [Deno.execPath(), "run", "-A", "--unstable-net", main];
}

function flanneld(args: string[], env: Record<string, string> = {}): Promise<Output> {
  const [command, ...first] = program();
  return exec(command, [...first, ...args], { env });
}

/** Runs it and demands success; gives standard output. */
async function succeed(args: string[], env: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await flanneld(args, env);
  assert.equal(code, 0, stderr);
  return stdout;
}

/** Runs it and demands one line on standard error, none on standard output, and this status. */
async function fail(args: string[], status: number, line: RegExp): Promise<void> {
  const { code, stdout, stderr } = await flanneld(args);
  assert.match(stderr, /^flanneld: [^\n]+\n$/);
  assert.match(stderr, line);
  assert.equal(stdout, "");
  assert.equal(code, status);
}

Deno.test("--version prints the version alone, with one dash or two", async () => {
  for (const flag of ["-version", "--version", "version"]) {
    const { code, stdout, stderr } = await flanneld([flag]);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^v\d+\.\d+\.\d+\n$/);
  }
});

Deno.test("--help names each flag and its variable, within 100 columns", async () => {
  const help = await succeed(["--help"]);
  for (const text of ["--iface-regex", "FLANNELD_ETCD_ENDPOINTS", "Traffic rules:", "leases"]) {
    assert.ok(help.includes(text), text);
  }
  assert.deepEqual(help.split("\n").filter((line) => line.length > 100), []);
});

Deno.test("what the user got wrong: one line, exit status 2", async () => {
  await fail(
    ["--etcd-endpoint=x"],
    2,
    /unknown flag --etcd-endpoint; did you mean --etcd-endpoints/,
  );
  await fail(["-public-ip", "10.0.0"], 2, /invalid value "10\.0\.0" for --public-ip/);
  await fail(["-kube-subnet-mgr"], 2, /--kube-subnet-mgr: this version has no/);
  await fail(["lease"], 2, /unknown command "lease"; did you mean leases\?/);
  await fail(["config"], 2, /config needs one of: get, set, validate/);
  await fail(["config", "get", "x"], 2, /unexpected argument "x": config get takes no argument$/m);
  await fail(["leases", "--jsn"], 2, /unknown flag --jsn; did you mean --json\?$/m);
  await fail(["leases", "-etcd-endpoints=x://"], 2, /not an http:\/\/ or https:\/\/ URL/);
  await fail(
    ["config", "get", "-etcd-prefx", "/x"],
    2,
    /flag -etcd-prefx; did you mean --etcd-prefix\?/,
  );
  await fail(["config", "st"], 2, /unknown command "config st"; did you mean config set\?/);
  await fail(
    ["doctor", "aws-vcp"],
    2,
    /unknown command "doctor aws-vcp"; did you mean doctor aws-vpc\?/,
  );
  // A value, perhaps a password, is not repeated.
  await fail(
    ["leases", "--etcd-passwrd=s3cret"],
    2,
    /flag --etcd-passwrd; did you mean --etcd-pas/,
  );
});

Deno.test("cleanup without capabilities: one line that says what to run it with", async () => {
  // Root of a user namespace of its own has none over this network namespace.
  const args = ["--user", "--map-root-user", ...program(), "cleanup"];
  const { code, stdout, stderr } = await exec("unshare", args);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.equal(
    stderr,
    "flanneld: cannot clean up: run as root or with CAP_NET_ADMIN and CAP_NET_RAW\n",
  );
});

Deno.test("a word behind a boolean flag: how its value is written", async () => {
  const cases: [string[], RegExp][] = [
    [["--ip-masq", "true"], /--ip-masq .*"true": use --ip-masq or --ip-masq=true$/m],
    [["-ip-masq", "false"], /-ip-masq .*"false": use -ip-masq=false$/m],
    [["--iptables-forward-rules", "1", "--v=1"], /use --iptables-forward-rules or --iptab/],
    [["--kube-subnet-mgr", "no"], /use --kube-subnet-mgr=false/],
    [["leases", "--json", "true"], /use --json or --json=true/],
    [["leases", "--json=maybe"], /--json=maybe: use --json or --json=false/],
  ];
  for (const [args, line] of cases) await fail(args, 2, line);
});

Deno.test("help of a command, by the command help", async () => {
  assert.equal(await succeed(["help"]), await succeed(["--help"]));
  const help = await succeed(["help", "config", "set"]);
  assert.match(help, /^Usage: flanneld config set /);
  assert.equal(help, await succeed(["config", "set", "--help"]));
  await fail(["help", "confg"], 2, /unknown command "confg"; did you mean config\?/);
});

Deno.test("endpoints as units have them", async () => {
  await using etcd = await Etcd.start();
  const address = etcd.endpoint.replace("http://", "");
  await succeed(["config", "set", `--etcd-endpoints=${etcd.endpoint}`, CONFIG]);
  for (const endpoints of [address, `${address},`, ` ${address} , `, `HTTP://${address}/`]) {
    assert.equal(await succeed(["config", "get", `--etcd-endpoints=${endpoints}`]), `${CONFIG}\n`);
  }
  // Flags of the logger before a command are ignored, as they are for the agent.
  const logger = ["--vmodule=a=1", "-log_backtrace_at", "x.go:1", "--logtostderr"];
  assert.equal(
    await succeed([...logger, `--etcd-endpoints=${address}`, "config", "get"]),
    `${CONFIG}\n`,
  );
  // A port that is missing is etcd's.
  await fail(["config", "get", "--etcd-endpoints=http://127.9.9.9"], 1, /127\.9\.9\.9:2379/);
  await fail(["config", "get", "--etcd-endpoints=https://[::1]"], 1, /https:\/\/\[::1\]:2379/);
  await fail(["config", "get", "--etcd-endpoints=http://127.9.9.9:80"], 1, /127\.9\.9\.9:80/);
  await fail(
    ["config", "get", "--etcd-endpoints=127.0.0.1:1,127.0.0.1:2"],
    1,
    /etcd at http:\/\/127\.0\.0\.1:1 is .*; etcd at http:\/\/127\.0\.0\.1:2 is /,
  );
});

Deno.test("config set, get and validate against etcd", async () => {
  await using etcd = await Etcd.start();
  const store = `--etcd-endpoints=${etcd.endpoint}`;
  await fail(["config", "get", store], 1, new RegExp(`no network config in etcd under ${KEY}`));

  assert.equal(await succeed(["config", "set", store, CONFIG]), `${CONFIG}\n`);
  assert.equal(await etcd.ctl("get", "--print-value-only", KEY), `${CONFIG}\n`);
  assert.equal(await succeed(["config", "get", store]), `${CONFIG}\n`);
  const effective = JSON.parse(
    await succeed(["-etcd-endpoints", etcd.endpoint, "config", "validate"]),
  );
  assert.equal(effective.SubnetLen, 24);
  assert.equal(effective.SubnetMin, "10.1.1.0");
  assert.deepEqual([effective.Backend.VNI, effective.Backend.Port], [1, 8472]);

  const before = await etcd.ctl("get", KEY, "-w", "json");
  await fail(
    ["config", "set", store, '{"Network":"10.1.0.0/33"}'],
    1,
    /Network: "10\.1\.0\.0\/33"/,
  );
  await fail(
    ["config", "set", store, '{"Network":"10.1.0.0/16","Backend":{"Type":"x"}}'],
    1,
    /Type/,
  );
  const aliVpc = '{"Network":"10.1.0.0/16","Backend":{"Type":"ali-vpc"}}';
  await fail(
    ["config", "validate", aliVpc],
    1,
    /this version has no ali-vpc backend .*; use vxlan/,
  );
  const misnamed = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxaln"}}';
  await fail(["config", "set", store, misnamed], 1, /"vxaln" is not one of .*did you mean vxlan\?/);
  await fail(
    ["config", "set", store, '{"Network":"10.1.0.0/16","Backend":{"VNI":-1}}'],
    1,
    /Backend\.VNI: -1/,
  );
  await fail(["config", "set", store, "{"], 1, /is not JSON/);
  await fail(
    ["config", "set", store, "--file", "/nonexistent"],
    1,
    /^flanneld: cannot read \/nonexistent: no such file$/m,
  );
  await fail(["config", "set", store, "{}", "--file", "/x"], 2, /mutually exclusive/);
  assert.equal(revision(await etcd.ctl("get", KEY, "-w", "json")), revision(before));

  // Keys that nothing reads are mistakes, mostly; Go flannel passes over them.
  const misspelled: [string, RegExp][] = [
    ['{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan","Prot":8472}}', /did you mean Port\?/],
    ['{"Network":"10.1.0.0/16","Backand":{"Type":"vxlan"}}', /did you mean Backend\?/],
    ['{"Netwrok":"10.1.0.0/16","Backend":{}}', /did you mean Network\?/],
    ['{"Network":"10.1.0.0/16","Port":8472,"Backend":{}}', /"Port" .* it belongs in Backend/],
  ];
  for (const [text, line] of misspelled) {
    await fail(["config", "set", store, text], 1, line);
    await fail(["config", "validate", text], 1, line);
  }
  await fail(["config", "set", "--force", store, misspelled[2][0]], 1, /Network is missing/);
  assert.equal(revision(await etcd.ctl("get", KEY, "-w", "json")), revision(before));

  const { code, stderr } = await flanneld([
    ...["config", "set", store, "--force"],
    '{"Network":"10.2.0.0/16","X":1,"Backend":{"Type":"VXLAN"}}',
  ]);
  assert.equal(code, 0);
  assert.match(stderr, /^flanneld: warning: "X" is not a known key\n$/);
  await fail(["config", "validate", store], 1, /"X" is not a known key/);

  // The first of the endpoints may be dead, as one of the default's two mostly is.
  const endpoints = `http://127.0.0.1:1,${etcd.endpoint}`;
  const env = { FLANNELD_ETCD_ENDPOINTS: endpoints, FLANNELD_ETCD_PREFIX: "/other/" };
  await succeed(["config", "set", CONFIG], env);
  assert.equal(await etcd.ctl("get", "--print-value-only", "/other/config"), `${CONFIG}\n`);
});

function revision(json: string): number {
  return JSON.parse(json).kvs[0].mod_revision;
}

Deno.test("a config in a file: what is wrong with it is told, and how to name it", async () => {
  const folder = await Deno.makeTempDir();
  const file = `${folder}/net.json`;
  try {
    await fail(["config", "validate", `--file=${file}`], 1, /cannot read \/.*: no such file$/m);
    await fail(["config", "validate", `--file=${folder}`], 1, /cannot read \/.*: a directory, not/);
    await Deno.writeTextFile(file, `\ufeff${CONFIG}`);
    await fail(["config", "validate", `--file=${file}`], 1, /line 1, column 1: a byte order mark/);
    for (const path of [file, "./net.json", "net.json", "~/net", "/etc/net.conf"]) {
      await fail(["config", "validate", path], 2, /is a path: use --file=/);
    }
    await fail(["config", "validate", "//comment"], 1, /line 1, column 1: a comment/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a store that is away or refuses: one line, soon", async () => {
  await fail(
    ["config", "get", "--etcd-endpoints=http://127.0.0.1:1"],
    1,
    /http:\/\/127\.0\.0\.1:1/,
  );
});

Deno.test("TLS with a client certificate", async () => {
  await using etcd = await Etcd.start({ tls: true });
  assert.ok(etcd.tls);
  const pair = [`--etcd-certfile=${etcd.tls.cert}`, `--etcd-keyfile=${etcd.tls.key}`];
  const store = `--etcd-endpoints=${etcd.endpoint}`;
  await succeed(["config", "set", store, `--etcd-cafile=${etcd.tls.ca}`, ...pair, CONFIG]);
  await fail(["config", "get", store, ...pair], 1, /--etcd-cafile/);
  const ca = `--etcd-cafile=${etcd.tls.ca}`;
  await fail(["config", "get", store, ca], 1, /requires a client certificate.*set --etcd-certfile/);
  const plain = `--etcd-endpoints=${etcd.endpoint.replace("https", "http")}`;
  await fail(["config", "get", plain], 1, /speaks TLS: use https:\/\//);
  // Without a scheme, certificates make it https, as they do for Go's client.
  const address = `--etcd-endpoints=${etcd.endpoint.replace("https://", "")}`;
  assert.equal(await succeed(["config", "get", address, ca, ...pair]), `${CONFIG}\n`);
  const encrypted = `${etcd.folder}/encrypted.key`;
  const openssl = ["ec", "-in", etcd.tls.key, "-aes256", "-passout", "pass:x", "-out", encrypted];
  assert.equal((await exec("openssl", openssl)).code, 0);
  await fail(
    ["config", "get", store, ca, pair[0], `--etcd-keyfile=${encrypted}`],
    1,
    /encrypted\.key \(--etcd-keyfile\) is encrypted.*'openssl pkey -in \/\S+\/encrypted\.key -out /,
  );
  const der = `${etcd.folder}/key.der`;
  const convert = ["pkey", "-in", etcd.tls.key, "-outform", "der", "-out", der];
  assert.equal((await exec("openssl", convert)).code, 0);
  await fail(
    ["config", "get", store, ca, pair[0], `--etcd-keyfile=${der}`],
    1,
    /key\.der \(--etcd-keyfile\) holds no private key in PEM.*'openssl pkey -inform der -in \/\S+/,
  );
});

Deno.test("a user and its password", async () => {
  await using etcd = await Etcd.start({ auth: { username: "net", password: "secret" } });
  const access = [`--etcd-endpoints=${etcd.endpoint}`, "--etcd-username=net"];
  await succeed(["config", "set", ...access, CONFIG], { FLANNELD_ETCD_PASSWORD: "secret" });
  await fail(["config", "get", ...access, "--etcd-password=wrong"], 1, /--etcd-password/);
});

Deno.test("leases, as a table and as JSON", async () => {
  await using etcd = await Etcd.start();
  const store = `--etcd-endpoints=${etcd.endpoint}`;
  const put = (key: string, value: object, ...more: string[]) =>
    etcd.ctl("put", `/coreos.com/network/subnets/${key}`, JSON.stringify(value), ...more);
  await succeed(["config", "set", store, '{"Network":"10.1.0.0/16"}']);
  const grant = await etcd.ctl("lease", "grant", "3600");
  const id = /lease ([0-9a-f]+) granted/.exec(grant)?.[1] ?? "";
  const data = { VNI: 1, VtepMAC: "a2:4e:ac:cd:67:20" };
  const vxlan = { PublicIPv6: null, BackendType: "vxlan", BackendData: data };
  await put("10.1.34.0-24", { PublicIP: "192.0.2.1", ...vxlan }, `--lease=${id}`);
  await put("10.1.5.0-24", { PublicIP: "192.0.2.2", ...vxlan });

  const node = [store, "--public-ip=192.0.2.2", "--subnet-file=/nonexistent"];
  const [first, second] = JSON.parse(await succeed(["leases", ...node, "--json"]));
  assert.deepEqual(first, {
    subnet: "10.1.5.0/24",
    ipv6Subnet: null,
    publicIP: "192.0.2.2",
    publicIPv6: null,
    backendType: "vxlan",
    backendData: data,
    backendV6Data: null,
    expiresInSeconds: null,
    thisNode: true,
    skipped: null,
  });
  assert.equal(second.subnet, "10.1.34.0/24");
  assert.equal(second.thisNode, false);
  assert.ok(second.expiresInSeconds > 3500 && second.expiresInSeconds <= 3600);

  await put("10.9.0.0-24", { PublicIP: "192.0.2.3", ...vxlan });
  const outside = JSON.parse(await succeed(["leases", ...node, "--json"])).at(-1);
  assert.equal(outside.skipped, "10.9.0.0/24 is not in the network 10.1.0.0/16");
  assert.match(
    await succeed(["leases", ...node]),
    /^10\.9\.0\.0\/24 .* skipped: 10\.9\.0\.0\/24 is not in the network 10\.1\.0\.0\/16$/m,
  );
  await etcd.ctl("del", "/coreos.com/network/subnets/10.9.0.0-24");

  const [title, ...rows] = (await succeed(["leases", ...node])).trimEnd().split("\n");
  assert.match(title, /^SUBNET +PUBLIC IP +BACKEND +VTEP MAC +EXPIRES IN$/);
  assert.match(
    rows[0],
    /^10\.1\.5\.0\/24 +192\.0\.2\.2 +vxlan +a2:4e:ac:cd:67:20 +never +this node$/,
  );
  assert.match(rows[1], /^10\.1\.34\.0\/24 +192\.0\.2\.1 +vxlan +\S+ +(59m\d+s|1h0m0s)$/);
});

Deno.test("docker-opts writes variables, and merges into daemon.json whole or not at all", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const subnet = `${folder}/subnet.env`;
    await fail(["docker-opts", "-f", subnet, "-d", `${folder}/x`], 1, /no subnet file/);
    await Deno.writeTextFile(
      subnet,
      "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\nFLANNEL_MTU=9001\n" +
        "FLANNEL_IPMASQ=false\n",
    );
    const options = `${folder}/docker_opts.env`;
    await succeed(["docker-opts", "-f", subnet, "-d", options, "-ck", "OPTS"]);
    assert.equal(
      await Deno.readTextFile(options),
      'OPTS=" --bip=10.1.40.1/24 --ip-masq=true --mtu=9001"\n',
    );

    const daemon = `${folder}/daemon.json`;
    await Deno.writeTextFile(daemon, '{\n  "mtu": 1500,\n  "log-driver": "local"\n}\n');
    await Deno.chmod(daemon, 0o640);
    await Deno.symlink(daemon, `${folder}/link.json`);
    await succeed(["docker-opts", "-f", subnet, "--daemon-json", `${folder}/link.json`]);
    const merged = '{\n  "mtu": 9001,\n  "log-driver": "local",\n  "bip": "10.1.40.1/24"\n}\n';
    assert.equal(await Deno.readTextFile(daemon), merged);
    assert.equal((await Deno.stat(daemon)).mode! & 0o777, 0o640);
    assert.ok((await Deno.lstat(`${folder}/link.json`)).isSymlink);

    await Deno.writeTextFile(daemon, "{broken");
    await fail(["docker-opts", "-f", subnet, "--daemon-json", daemon], 1, /left unchanged/);
    assert.equal(await Deno.readTextFile(daemon), "{broken");

    // Where the agent masquerades, Docker must not.
    const masquerading = `${folder}/masq.env`;
    const values = (await Deno.readTextFile(subnet)).replace("IPMASQ=false", "IPMASQ=true");
    await Deno.writeTextFile(masquerading, values);
    await Deno.writeTextFile(daemon, merged);
    const told = await succeed(["docker-opts", "-f", masquerading, "--daemon-json", daemon]);
    assert.equal(
      told,
      `Set bip 10.1.40.1/24, mtu 9001 and ip-masq false in ${daemon}; restart Docker to apply them\n`,
    );
    assert.equal(JSON.parse(await Deno.readTextFile(daemon))["ip-masq"], false);
    await succeed(["docker-opts", "-f", subnet, "-m", "--daemon-json", daemon]);
    assert.equal(JSON.parse(await Deno.readTextFile(daemon))["ip-masq"], false);
    await succeed(["docker-opts", "-f", subnet, "--daemon-json", daemon]);
    assert.equal(JSON.parse(await Deno.readTextFile(daemon))["ip-masq"], true);
    await Deno.remove(masquerading);
    // Docker would not start, or not use the subnet.
    const refused: [string, RegExp][] = [
      ['{"bridge": "br0"}', /left unchanged: its "bridge": "br0" and bip are mutually exclusive/],
      ['{"fixed-cidr": "10.9.0.0/24"}', /left unchanged: its "fixed-cidr": "10\.9\.0\.0\/24"/],
      [
        "{\n  // why\n}",
        /left unchanged: it is not JSON: line 2, column 3: a comment; Docker does not accept/,
      ],
    ];
    for (const [text, line] of refused) {
      await Deno.writeTextFile(daemon, text);
      await fail(["docker-opts", "-f", subnet, "--daemon-json", daemon], 1, line);
      assert.equal(await Deno.readTextFile(daemon), text);
    }

    const fresh = `${folder}/docker/daemon.json`;
    await succeed(["docker-opts", "-f", subnet, "--daemon-json", fresh]);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(fresh)), {
      bip: "10.1.40.1/24",
      mtu: 9001,
    });
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assert.deepEqual(names, [
      "daemon.json",
      "docker",
      "docker_opts.env",
      "link.json",
      "subnet.env",
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("completions and the man page name every command", async () => {
  for (
    const args of [["completions", "bash"], ["completions", "zsh"], ["completions", "fish"], [
      "man",
    ]]
  ) {
    const text = (await succeed(args)).replaceAll("\\-", "-");
    for (const word of ["etcd-endpoints", "docker-opts", "daemon-json", "validate"]) {
      assert.ok(text.includes(word), `${args.join(" ")}: ${word}`);
    }
  }
  await fail(["completions", "csh"], 2, /unknown shell "csh"; /);
});
