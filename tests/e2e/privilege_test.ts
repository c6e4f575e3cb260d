/** The built program with no more rights than it says it needs. */
import assert from "node:assert/strict";
import { Cluster, networkConfig, type Node } from "../../testbed/cluster.ts";
import { run, waitFor } from "../../testbed/netns.ts";
import { binaryTest, eventually, matching, ping, terminate } from "./support.ts";

const UNIT = new URL("../../deploy/flanneld.service", import.meta.url).pathname;

/** CAP_NET_ADMIN and CAP_NET_RAW, bits 12 and 13 (capabilities(7)). */
const TWO = "0000000000003000";
const CAPS = "-all,+net_admin,+net_raw";
const AS_ROOT = `setpriv --bounding-set=${CAPS} --no-new-privs`;
const NOBODY = 65534;
const AS_NOBODY = `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups --no-new-privs ` +
  `--bounding-set=${CAPS} --inh-caps=${CAPS} --ambient-caps=${CAPS}`;

/** Writes a script that becomes the program, after `before` in mounts of its own. */
async function script(node: Node, before: string, command: string): Promise<string> {
  const path = `${node.folder}/start`;
  const text = `#!/bin/sh
if [ "$1" != inside ]; then exec unshare --mount --propagation private "$0" inside "$@"; fi
shift
${before}
exec ${command} "$@"
`;
  await Deno.writeTextFile(path, text, { mode: 0o755 });
  return path;
}

/** Folder with the legacy variant of iptables under the plain names. */
async function legacy(node: Node): Promise<string> {
  const folder = `${node.folder}/legacy`;
  await Deno.mkdir(folder);
  for (const name of ["iptables", "ip6tables"]) {
    for (const part of ["", "-save", "-restore"]) {
      await Deno.symlink(`/usr/sbin/${name}-legacy${part}`, `${folder}/${name}${part}`);
    }
  }
  return folder;
}

async function status(pid: number, field: string): Promise<string> {
  const text = await Deno.readTextFile(`/proc/${pid}/status`);
  return new RegExp(`^${field}:\\s*(.*)$`, "m").exec(text)?.[1] ?? "";
}

/** Packets cross, rules and subnet file are there, nothing was refused. */
async function assertWorks(cluster: Cluster): Promise<void> {
  for (const node of cluster.nodes) await node.waitReady(60_000);
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!), { limitMs: 20_000 });
  for (const { agent } of cluster.nodes) {
    assert.deepEqual(matching(agent!, /^[WE]|ermission|ermitted/), [], agent!.lines.join("\n"));
    for (const set of ["CapEff", "CapPrm", "CapBnd"]) {
      assert.equal(await status(agent!.pid, set), TWO, set);
    }
  }
}

for (const [type, variant] of [["vxlan", "nft"], ["udp", "legacy"]]) {
  binaryTest(
    `root with two capabilities: ${type}, iptables' ${variant} variant`,
    async (binary) => {
      const network = networkConfig("ipv4", { Type: type });
      await using cluster = await Cluster.create({ label: `caps-${type}`, network });
      for (const node of cluster.nodes) {
        const path = variant === "legacy" ? `export PATH=${await legacy(node)}:$PATH` : "";
        node.startAgent({ binary: await script(node, path, `${AS_ROOT} ${binary}`) });
      }
      await assertWorks(cluster);
      for (const { agent, ns } of cluster.nodes) {
        await eventually(async () => {
          const rules = await ns.run(`iptables-${variant}-save`, "-t", "filter");
          assert.match(rules, /-A FLANNEL-FWD -s 10\.1\.0\.0\/16/);
        });
        assert.equal((await terminate(agent!)).code, 0);
      }
    },
  );
}

for (const [type, nftables] of [["vxlan", false], ["udp", true]] as const) {
  const filter = nftables ? "nftables" : "iptables";
  binaryTest(`a user with two ambient capabilities: ${type}, ${filter}`, async (binary) => {
    const network = {
      ...networkConfig("ipv4", { Type: type }),
      EnableNFTables: nftables,
    };
    await using cluster = await Cluster.create({ label: `user-${type}`, network });
    for (const node of cluster.nodes) {
      await Deno.chmod(`${node.folder}/..`, 0o711);
      await Deno.copyFile(binary, `${node.folder}/flanneld`);
      // As udev makes it: open to all, since what it gives needs CAP_NET_ADMIN.
      const tun = `mknod -m 666 ${node.folder}/tun c 10 200 && mount --bind ${node.folder}/tun ` +
        `/dev/net/tun && export FLANNELD_CACHE_DIR=${node.folder}/cache || exit`;
      const start = await script(node, tun, `${AS_NOBODY} ${node.folder}/flanneld`);
      await Deno.chown(node.folder, NOBODY, NOBODY);
      node.startAgent({ binary: start });
    }
    await assertWorks(cluster);
    for (const { agent, subnetFile, ns } of cluster.nodes) {
      await eventually(async () => {
        const rules = await ns.run("nft", "list", "ruleset");
        assert.match(rules, nftables ? /table ip flannel-ipv4/ : /chain FLANNEL-FWD/);
      });
      assert.equal((await Deno.stat(subnetFile)).uid, NOBODY);
      // It may not write to /run/flannel: its lock and socket are beside the subnet file.
      const { stdout, stderr } = await ns.exec(binary, "peers", `--subnet-file=${subnetFile}`);
      assert.match(stdout, /^SUBNET.*\n10\.1\.\d+\.0\/24 /, stderr);
      assert.match(await status(agent!.pid, "Uid"), new RegExp(`^${NOBODY}\\s`));
    }
  });
}

for (
  const [missing, caps] of [
    ["", "-all"],
    [" without CAP_NET_ADMIN", "-all,+net_raw"],
    [" without CAP_NET_RAW", "-all,+net_admin"],
  ]
) {
  binaryTest(
    `with the capabilities ${caps} the agent ends before it claims a lease`,
    async (binary) => {
      await using cluster = await Cluster.create({ label: "nocaps", nodes: 1 });
      const [node] = cluster.nodes;
      await Deno.chmod(`${node.folder}/..`, 0o711);
      await Deno.copyFile(binary, `${node.folder}/flanneld`);
      const user = `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups --no-new-privs ` +
        `--bounding-set=${caps} --inh-caps=${caps} --ambient-caps=${caps}`;
      const cache = `export FLANNELD_CACHE_DIR=${node.folder}/cache`;
      const start = await script(node, cache, `${user} ${node.folder}/flanneld`);
      await Deno.chown(node.folder, NOBODY, NOBODY);
      await assertRefused(cluster, start, missing);
    },
  );
}

binaryTest("all capabilities, but not over this network namespace", async (binary) => {
  await using cluster = await Cluster.create({ label: "userns", nodes: 1 });
  const [node] = cluster.nodes;
  const start = await script(node, "", `unshare --user --map-root-user ${binary}`);
  await assertRefused(cluster, start, "");
});

/** The agent ends with one line that names what it lacks if it has the rest, and leaves no lease. */
async function assertRefused(cluster: Cluster, binary: string, missing: string): Promise<void> {
  const agent = cluster.node(0).startAgent({ binary });
  await waitFor(() => agent.ended, { limitMs: 20_000, what: "the agent's end" });
  assert.equal((await agent.status).code, 2, agent.lines.join("\n"));
  assert.deepEqual(agent.lines, [
    `flanneld: cannot set up networking${missing}: run as root or with CAP_NET_ADMIN and ` +
    "CAP_NET_RAW",
  ]);
  assert.equal((await cluster.leases()).size, 0);
}

binaryTest(
  "the program's permissions are named one by one, and none is asked for",
  async (binary) => {
    await using cluster = await Cluster.create({ label: "grants", nodes: 1 });
    const [node] = cluster.nodes;
    const agent = node.startAgent({ binary });
    await node.waitReady();
    const args = (await Deno.readTextFile(`/proc/${agent.pid}/cmdline`)).split("\0");
    const permissions = args.filter((arg) => /^(-A|--allow-)/.test(arg));
    const kinds = permissions.map((arg) => arg.replace(/^--allow-/, "").split("=")[0]);
    assert.deepEqual(kinds, ["net", "ffi", "run", "read", "write", "env", "sys"]);
    assert.match(permissions[1], /^--allow-ffi=[^,]*\/libdataplane\.so$/);
    assert.match(permissions[2], /^--allow-run=(\/[a-z/]*\/(ip6?tables[a-z-]*|nft),?)+$/);
    assert.equal(permissions[4], `--allow-write=${node.folder}`);
    for (const flag of ["--no-prompt", "--no-remote", "--no-npm", "--no-config", "--cached-only"]) {
      assert.ok(args.includes(flag), flag);
    }
  },
);

binaryTest("what is not permitted is one line", async (binary) => {
  // Behind a flag's value, where no file is expected.
  const result = await new Deno.Command(binary, {
    args: ["docker-opts", "-f", "/etc/hostname", "-d", "/dev/mem"],
    stdin: "null",
  }).output();
  assert.equal(result.code, 1);
  const text = new TextDecoder().decode(result.stderr);
  assert.match(text, /^flanneld: permission denied by the program's own sandbox: [^\n]*\n$/);
});

Deno.test("the unit's exposure, as systemd scores it, is 3.0 or lower", async () => {
  const report = await run("systemd-analyze", [
    ...["security", "--offline=true", "--no-pager", "--threshold=30", UNIT],
  ]);
  const score = Number(/Overall exposure level.*: ([\d.]+)/.exec(report)?.[1]);
  assert.ok(score <= 3.0, report);
});

binaryTest("the agent works within the unit's mounts and system calls", async (binary) => {
  const network = networkConfig("ipv4", { Type: "udp" });
  await using cluster = await Cluster.create({ label: "unit", network });
  const traces: string[] = [];
  for (const node of cluster.nodes) {
    const trace = `${node.folder}/trace/calls`;
    traces.push(trace);
    const strace = `strace --follow-forks --summary-only --output=${trace} --quiet=all`;
    const mounts = await unitMounts(node);
    node.startAgent({ binary: await script(node, mounts, `${AS_ROOT} ${strace} ${binary}`) });
  }
  for (const node of cluster.nodes) await node.waitReady(90_000);
  const [a, b] = await cluster.attachAll("c1");
  await eventually(() => ping(a.ns, b.ipv4!), { limitMs: 20_000 });
  const allowed = await allowedCalls();
  for (const [index, { agent }] of cluster.nodes.entries()) {
    await eventually(() => assert.ok(matching(agent!, /Adding iptables/).length > 0));
    assert.deepEqual(matching(agent!, /^[WE]|ermission|ermitted/), [], agent!.lines.join("\n"));
    const [child] = (await Deno.readTextFile(`/proc/${agent!.pid}/task/${agent!.pid}/children`))
      .split(" ");
    Deno.kill(Number(child), "SIGTERM");
    await waitFor(() => agent!.ended, { limitMs: 20_000, what: "the end of the trace" });
    const calls = (await Deno.readTextFile(traces[index])).split("\n").flatMap((line) =>
      /^\s*[\d.]+\s+[\d.]+\s+\d+\s+\d+\s+(?:\d+\s+)?([a-z_0-9]+)$/.exec(line)?.[1] ?? []
    );
    assert.ok(calls.includes("sendmsg") || calls.includes("sendto"), calls.join(" "));
    assert.deepEqual(calls.filter((call) => !allowed.has(call) && call !== "total"), []);
  }
});

/** Commands that make all read-only but what the unit leaves writable, here the node's folder. */
async function unitMounts({ folder }: Node): Promise<string> {
  assert.match(await Deno.readTextFile(UNIT), /^ProtectSystem=strict$/m);
  await Deno.mkdir(`${folder}/trace`);
  return `mount --bind ${folder} ${folder}
touch /run/xtables.lock && mount --bind /run/xtables.lock /run/xtables.lock
export FLANNELD_CACHE_DIR=${folder}/cache
while read -r _ target _; do
  case "$target" in
    ${folder} | /run/xtables.lock | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
    *) mount -o remount,bind,ro "$target" 2>/dev/null ;;
  esac
done < /proc/self/mounts
if touch /run/flanneld-test /tmp/flanneld-test 2>/dev/null; then exit 99; fi`;
}

/** The system calls that the unit's filter leaves, by systemd's own sets. */
async function allowedCalls(): Promise<Set<string>> {
  const unit = await Deno.readTextFile(UNIT);
  const allowed = new Set<string>();
  for (const [, not, names] of unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm)) {
    for (const name of names.split(" ")) {
      for (const call of await members(name)) {
        if (not) allowed.delete(call);
        else allowed.add(call);
      }
    }
  }
  return allowed;
}

async function members(name: string): Promise<string[]> {
  if (!name.startsWith("@")) return [name];
  const text = await run("systemd-analyze", ["syscall-filter", "--no-pager", name]);
  const lines = text.split("\n").map((line) => line.trim());
  const names = lines.filter((line) => line !== name && /^@?[a-z_0-9-]+$/.test(line));
  return (await Promise.all(names.map(members))).flat();
}
