import assert from "node:assert/strict";
import { completionsText } from "./completions/mod.ts";
import { buildProgram } from "./program.ts";

/** What bash offers for the last of these words, the line split as readline does it. */
async function offered(...words: string[]): Promise<string[]> {
  const script = `${completionsText("bash", buildProgram())}
complete -p flanneld >&2 || exit 9
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _flanneld
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: ["--norc", "--noprofile", "-c", script, "bash", "flanneld", ...words],
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.equal(text(stderr), "complete -F _flanneld flanneld\n");
  assert.equal(code, 0);
  return text(stdout).split("\n").filter((line) => line !== "").sort();
}

Deno.test("bash: commands, the words of help, and the names of shells", async () => {
  assert.deepEqual(await offered("conf"), ["config"]);
  assert.deepEqual(await offered("config", "va"), ["validate"]);
  const help = await offered("help", "");
  for (const name of ["config", "leases", "man"]) assert.ok(help.includes(name), name);
  assert.ok(!help.includes("help"));
  assert.deepEqual(await offered("help", "config", "s"), ["set"]);
  assert.deepEqual(await offered("completions", "z"), ["zsh"]);
});

Deno.test("bash: flags with one dash or two", async () => {
  assert.deepEqual(await offered("--etcd-e"), ["--etcd-endpoints"]);
  assert.deepEqual(await offered("-etcd-e"), ["-etcd-endpoints"]);
  assert.deepEqual(await offered("leases", "-etcd-e"), ["-etcd-endpoints"]);
  assert.deepEqual(await offered("leases", "--js"), ["--json"]);
  assert.deepEqual(await offered("config", "set", "--for"), ["--force"]);
  assert.deepEqual(await offered("config", "get", "--for"), []);
});

Deno.test("bash: values that can be listed, as the next argument or after =", async () => {
  for (const dashes of ["-", "--"]) {
    const policy = `${dashes}iptables-forward-policy`;
    assert.deepEqual(await offered(policy, ""), ["accept", "keep"]);
    assert.deepEqual(await offered(policy, "k"), ["keep"]);
    assert.deepEqual(await offered(policy, "="), ["accept", "keep"]);
    assert.deepEqual(await offered(policy, "=", "a"), ["accept"]);
    assert.deepEqual(await offered(`${policy}=k`), [`${policy}=keep`]);
    assert.deepEqual(await offered(`${dashes}ip-masq`, "=", "f"), ["false"]);
    const interfaces = [...Deno.readDirSync("/sys/class/net")].map(({ name }) => name).sort();
    assert.deepEqual(await offered(`${dashes}iface`, ""), interfaces);
    assert.deepEqual(await offered(`${dashes}iface`, "=", "l"), ["lo"]);
  }
  // What cannot be listed offers nothing, rather than commands.
  assert.deepEqual(await offered("--etcd-prefix", ""), []);
  assert.deepEqual(await offered("--etcd-prefix", "="), []);
});

Deno.test("bash: files, also with blanks in their names", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/a b`);
    await Deno.writeTextFile(`${folder}/a.env`, "");
    const both = [`${folder}/a b`, `${folder}/a.env`];
    assert.deepEqual(await offered("--subnet-file", `${folder}/a`), both);
    assert.deepEqual(await offered("--subnet-file", "=", `${folder}/a`), both);
    assert.deepEqual(await offered("-subnet-file", "=", `${folder}/a.`), [both[1]]);
    const whole = await offered(`--subnet-file=${folder}/a`);
    assert.deepEqual(whole, both.map((path) => `--subnet-file=${path}`));
    assert.deepEqual(await offered("config", "set", "--file", `${folder}/a.`), [both[1]]);
    assert.deepEqual(await offered("docker-opts", "-f", `${folder}/a.`), [both[1]]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("bash: a flag's value is not taken for a command", async () => {
  const set = ["--force"];
  assert.deepEqual(await offered("--etcd-prefix", "leases", "config", "set", "--for"), set);
  assert.deepEqual(await offered("-etcd-prefix", "=", "leases", "config", "set", "--for"), set);
  assert.deepEqual(await offered("--etcd-prefix=leases", "config", "set", "--for"), set);
  assert.deepEqual(await offered("--ip-masq", "config", "set", "--for"), set);
});

Deno.test("zsh and fish are offered the same values", () => {
  const program = buildProgram();
  const zsh = completionsText("zsh", program);
  assert.match(zsh, /--iptables-forward-policy=\[[^\n]*:value:\(accept keep\)/);
  assert.match(zsh, /-iface=\[[^\n]*:_net_interfaces/);
  const fish = completionsText("fish", program);
  assert.match(fish, / -l iptables-forward-policy -o iptables-forward-policy -x -a 'accept keep'/);
  assert.match(fish, / -l iface -o iface -x -a '\(__fish_print_interfaces\)'/);
  assert.match(fish, /seen_subcommand_from help; and not [^\n]* -a leases /);
});
