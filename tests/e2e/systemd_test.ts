/** The built program as the unit's service, under a real systemd. */
import assert from "node:assert/strict";
import { Cluster, networkConfig } from "../../testbed/cluster.ts";
import { Machine, type MachineFile } from "../../testbed/machine.ts";
import { waitFor } from "../../testbed/netns.ts";
import { baseAddress, binaryTest, eventually, nodeLease, ping } from "./support.ts";

const UNIT = new URL("../../deploy/flanneld.service", import.meta.url).pathname;
const SERVICE = "flanneld.service";

/** Waits until systemd takes orders. */
async function waitBooted(machine: Machine): Promise<void> {
  await waitFor(
    async () => (await machine.exec("systemctl", "is-active", "sysinit.target")).code === 0,
    { limitMs: 30_000, what: "systemd" },
  );
}

/** A line a warning or an error of the service. */
async function complaints(machine: Machine): Promise<string[]> {
  const text = await machine.run("journalctl", "--unit", SERVICE, "--output=cat", "--no-pager");
  return text.split("\n").filter((line) => /^[WE]\d|^flanneld:/.test(line));
}

/** A drop-in for a user's password, as the unit's comment has it. */
const DROP_IN = `[Service]
LoadCredential=etcd-password:/etc/flannel/etcd-password
Environment=FLANNELD_ETCD_PASSWORD_FILE=%d/etcd-password
Environment=FLANNELD_ETCD_USERNAME=flannel
`;

/** Files for a machine, of texts by their path there. */
async function filesOf(folder: string, texts: Record<string, string>): Promise<MachineFile[]> {
  return await Promise.all(
    Object.entries(texts).map(async ([to, text], index) => {
      const from = `${folder}/file${index}`;
      await Deno.writeTextFile(from, text);
      return { from, to, mode: "600" };
    }),
  );
}

for (
  const [type, nftables, password] of [["vxlan", false, ""], ["udp", true, "s3cret"]] as const
) {
  binaryTest(`the unit's service comes up, starts again and stops: ${type}`, async (binary) => {
    const network = { ...networkConfig("ipv4", { Type: type }), EnableNFTables: nftables };
    await using cluster = await Cluster.create({
      label: `unit-${type}`,
      network,
      etcd: password ? { auth: { username: "flannel", password } } : {},
    });
    const [node, other] = cluster.nodes;
    other.startAgent();
    await other.waitReady();
    const { endpoint } = cluster.etcd;
    const files = await filesOf(node.folder, {
      "/etc/default/flanneld": `FLANNELD_ETCD_ENDPOINTS=${endpoint}\nFLANNELD_IFACE=eth0\n`,
      ...(password && {
        "/etc/flannel/etcd-password": password,
        [`/etc/systemd/system/${SERVICE}.d/password.conf`]: DROP_IN,
      }),
    });
    await using machine = await Machine.start(node.ns, {
      hostname: "unit",
      systemd: true,
      files: [
        { from: binary, to: "/usr/local/bin/flanneld", mode: "755" },
        { from: UNIT, to: `/etc/systemd/system/${SERVICE}` },
        ...files,
      ],
    });
    await waitBooted(machine);
    const systemctl = (...args: string[]) => machine.run("timeout", "60", "systemctl", ...args);
    const reach = async () => {
      const { key } = await nodeLease(cluster, other);
      await eventually(() => ping(node.ns, baseAddress(key.replace("-", "/"))));
    };

    // Ends once the agent has said that it is ready.
    await systemctl("start", SERVICE).catch(async (error) => {
      throw new Error(`${error}\n${await machine.run("journalctl", "--no-pager", "--lines=40")}`);
    });
    const subnets = await machine.run("cat", "/run/flannel/subnet.env");
    await reach();
    const pid = (await systemctl("show", "--property=MainPID", "--value", SERVICE)).trim();
    const status = await machine.run("cat", `/proc/${pid}/status`);
    assert.match(status, /^CapEff:\s*0000000000003000$/m);
    assert.match(status, /^NoNewPrivs:\s*1$/m);
    assert.match(status, /^Seccomp:\s*2$/m, "system calls are filtered");

    await systemctl("restart", SERVICE);
    assert.equal(await machine.run("cat", "/run/flannel/subnet.env"), subnets);
    await reach();
    await eventually(async () => {
      const rules =
        await (nftables ? node.ns.run("nft", "list", "ruleset") : node.ns.run("iptables-save"));
      assert.match(rules, nftables ? /table ip flannel-ipv4/ : /-A FLANNEL-FWD -s 10\.1\.0\.0\/16/);
    });

    await systemctl("stop", SERVICE);
    assert.match(await systemctl("show", "--property=Result,ActiveState", SERVICE), /=success/);
    assert.equal(await machine.run("cat", "/run/flannel/subnet.env"), subnets);
    if (type === "vxlan") await reach();
    assert.deepEqual(await complaints(machine), []);
  });
}
