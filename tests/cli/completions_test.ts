/**
 * What zsh and fish offer for a command line. Bash is tested beside the sources, as it is everywhere.
 *
 * @module
 */
import assert from "node:assert/strict";
import { completionsText } from "../../cli/completions/mod.ts";
import { buildProgram } from "../../cli/program.ts";
import { exec } from "../../testbed/netns.ts";

/** Command lines and what is offered at their end, in the order of the alphabet. */
const LINES: [string, string[]][] = [
  ["flanneld help config ", ["get", "set", "validate"]],
  ["flanneld completions ", ["bash", "fish", "zsh"]],
  ["flanneld --iptables-forward-policy ", ["accept", "keep"]],
  ["flanneld -iptables-forward-policy ", ["accept", "keep"]],
  ["flanneld --etcd-e", ["--etcd-endpoints"]],
  ["flanneld -etcd-e", ["-etcd-endpoints"]],
  ["flanneld --etcd-prefix /x leases --js", ["--json"]],
];

function interfaces(): string[] {
  return [...Deno.readDirSync("/sys/class/net")].map(({ name }) => name).sort();
}

/** Runs `body` with the path of a file that holds the shell's script. */
async function withScript(shell: string, body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/_flanneld`, completionsText(shell, buildProgram()));
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("fish completes commands, flags and their values", async () => {
  await withScript("fish", async (folder) => {
    const offered = async (line: string) => {
      const script = `source ${folder}/_flanneld; complete -C '${line}'`;
      const { code, stdout, stderr } = await exec("fish", ["--no-config", "-c", script]);
      assert.deepEqual([code, stderr], [0, ""]);
      return stdout.split("\n").filter(Boolean).map((one) => one.split("\t")[0]).sort();
    };
    for (const [line, words] of LINES) assert.deepEqual(await offered(line), words, line);
    assert.deepEqual(await offered("flanneld --iface "), interfaces());
    assert.deepEqual(await offered("flanneld --subnet-file=/etc/hostn"), [
      "--subnet-file=/etc/hostname",
    ]);
  });
});

/** Types a line and a tab into an interactive zsh, and prints what its completion adds. */
const ZSH = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -d $1/dump; PS1=
compadd() { builtin compadd -A hits \\"\\$@\\"; print -rl -- \\$hits >> $1/hits; builtin compadd \\"\\$@\\"; }
finished() { print done >> $1/done; }
comppostfuncs=(finished); print > $1/ready"
wait_for() {
  integer left=200
  until [[ -e $1 ]]; do (( left-- )) || { print -u2 "zsh: no $1"; exit 1; }; sleep 0.05; done
}
wait_for $1/ready
zpty -w -n shell "$2"$'\\t'
wait_for $1/done
zpty -d shell
cat $1/hits
`;

Deno.test("zsh completes commands, flags and their values", async () => {
  await withScript("zsh", async (folder) => {
    const offered = async (line: string) => {
      for (const name of ["ready", "done", "hits"]) {
        await Deno.remove(`${folder}/${name}`).catch(() => {});
      }
      const { code, stdout, stderr } = await exec("zsh", ["-f", "-c", ZSH, "zsh", folder, line]);
      assert.deepEqual([code, stderr], [0, ""], line);
      return [...new Set(stdout.split("\n").filter(Boolean))].sort();
    };
    for (const [line, words] of LINES) assert.deepEqual(await offered(line), words, line);
    assert.deepEqual(await offered("flanneld --iface "), interfaces());
    assert.deepEqual(await offered("flanneld --ip-masq="), ["false", "true"]);
  });
});
