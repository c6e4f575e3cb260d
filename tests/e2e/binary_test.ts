/** The one file: it needs nothing of the node it runs on. */
import assert from "node:assert/strict";
import { Cluster } from "../../testbed/cluster.ts";
import { NetNs, run } from "../../testbed/netns.ts";
import { binaryTest, ping, waitForwarding } from "./support.ts";

binaryTest(
  "it runs in an empty namespace with no environment and an empty HOME",
  async (binary) => {
    await using ns = await NetNs.create("bare");
    const home = await Deno.makeTempDir({ prefix: "flanneld-home-" });
    try {
      for (const args of [["env", "-i", binary], ["env", "-i", `HOME=${home}`, binary]]) {
        const { code, stdout, stderr } = await ns.exec(args[0], ...args.slice(1), "--version");
        assert.equal(code, 0, stderr);
        assert.match(stdout, /^v?\d+\.\d+\.\d+\S*\n$/);
        assert.equal(stderr, "");
      }
      const wrong = await ns.exec("env", "-i", binary, "--nothing");
      assert.equal(wrong.code, 2);
      assert.match(wrong.stderr, /^flanneld: [^\n]+\n$/);
    } finally {
      await Deno.remove(home, { recursive: true });
    }
  },
);

binaryTest("the agent works where every file system is read-only", async (binary) => {
  await using cluster = await Cluster.create({ label: "readonly" });
  for (const node of cluster.nodes) {
    const script = `${node.folder}/readonly`;
    await Deno.writeTextFile(script, readOnly(binary, node.folder), { mode: 0o755 });
    node.startAgent({ binary: script });
  }
  for (const node of cluster.nodes) await node.waitReady(30_000);
  await waitForwarding(cluster, "vxlan");
  const [a, b] = await cluster.attachAll("c1");
  await ping(a.ns, b.ipv4!);
  for (const { agent } of cluster.nodes) {
    agent!.kill("SIGTERM");
    assert.equal((await agent!.status).code, 0, agent!.lines.join("\n"));
  }
});

binaryTest(
  "it needs neither Deno nor the sources, nor other programs but iptables",
  async (binary) => {
    await using cluster = await Cluster.create({ label: "alone", nodes: 1 });
    const [node] = cluster.nodes;
    const root = `${node.folder}/copy`;
    await Deno.mkdir(root);
    await run("cp", [binary, `${root}/flanneld`]);
    const script = `${root}/alone`;
    // Nothing of this environment, from a folder that has only the file.
    await Deno.writeTextFile(
      script,
      `#!/bin/sh\ncd ${root} && exec env -i PATH=/usr/sbin:/sbin ./flanneld "$@"\n`,
      { mode: 0o755 },
    );
    const agent = node.startAgent({ binary: script });
    await node.waitReady(30_000);
    assert.notEqual(
      await Deno.readLink(`/proc/${agent.pid}/exe`),
      Deno.realPathSync(Deno.execPath()),
      "the runtime is the binary's own",
    );
  },
);

/** A script that runs the program in mounts of its own, read-only but for one folder. */
function readOnly(binary: string, writable: string): string {
  return `#!/bin/sh
if [ "$1" != inside ]; then exec unshare --mount --propagation private "$0" inside "$@"; fi
shift
mount --bind ${writable} ${writable}
while read -r _ target _; do
  case "$target" in
    ${writable} | /proc | /proc/* | /sys | /sys/*) ;;
    *) mount -o remount,bind,ro "$target" 2>/dev/null ;;
  esac
done < /proc/self/mounts
for folder in /tmp /run /var/cache /dev/shm "\${HOME:-/}" ${writable}/..; do
  if touch "$folder/flanneld-test" 2>/dev/null; then
    echo "$folder is writable" >&2
    exit 99
  fi
done
exec env -i PATH="$PATH" HOME="$HOME" ${binary} "$@"
`;
}
