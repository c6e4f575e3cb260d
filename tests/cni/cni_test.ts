/**
 * The CNI plugin, called by the specification's own `cnitool`, with Debian's plugins as delegates and
 * without them.
 */
import assert from "node:assert/strict";
import { CNI_TOOLS } from "../../testbed/go_tools.ts";
import { type Answer, CniHost, type CniResult, DEBIAN_PLUGINS } from "../../testbed/cni.ts";
import { Cluster, waitReach } from "../../testbed/cluster.ts";
import { NetNs } from "../../testbed/netns.ts";

const SUBNET_FILE = [
  "FLANNEL_NETWORK=10.1.0.0/16",
  "FLANNEL_SUBNET=10.1.40.1/24",
  "FLANNEL_IPV6_NETWORK=fd00:1::/48",
  "FLANNEL_IPV6_SUBNET=fd00:1:0:5::1/64",
  "FLANNEL_MTU=1450",
  "FLANNEL_IPMASQ=true",
  "",
].join("\n");

/** A host without an agent: its subnet file is written by the test. */
async function withHost(
  plugins: string[],
  body: (host: CniHost, pods: NetNs[]) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "flanneld-cni-" });
  try {
    await using ns = await NetNs.create("cni");
    await using one = await NetNs.create("cni-pod1");
    await using two = await NetNs.create("cni-pod2");
    await using three = await NetNs.create("cni-pod3");
    await using four = await NetNs.create("cni-pod4");
    const subnetFile = `${folder}/subnet.env`;
    await Deno.writeTextFile(subnetFile, SUBNET_FILE);
    await using host = await CniHost.create(ns, { folder, subnetFile, plugins });
    await body(host, [one, two, three, four]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function ipOf(result: CniResult, family: 4 | 6): string {
  const found = result.ips.find(({ address }) => address.includes(":") === (family === 6));
  return found!.address.split("/")[0];
}

function assertError({ code, answer }: Answer, number: number, message: RegExp): void {
  assert.equal(code, 1, JSON.stringify(answer));
  assert.equal(answer.code, number, JSON.stringify(answer));
  assert.match(String(answer.msg), message);
}

Deno.test("cni: pods of two nodes reach each other, by Debian's bridge and by our own", async () => {
  await using cluster = await Cluster.create({
    label: "cni",
    families: "dual",
    agentArgs: ["--bridge="],
  });
  await cluster.startAgents();
  const [debian, own] = await Promise.all(
    cluster.nodes.map((node, index) =>
      CniHost.create(node.ns, {
        folder: node.folder,
        subnetFile: node.subnetFile,
        plugins: index === 0 ? [DEBIAN_PLUGINS] : [],
      })
    ),
  );
  await using _debian = debian;
  await using _own = own;
  const delegate = { isDefaultGateway: true, hairpinMode: true };
  for (const host of [debian, own]) await host.configure("1.0.0", { delegate });
  const pods = await Promise.all(["a", "b", "c"].map((name) => cluster.namespace(name)));
  const hosts = [debian, own, own];
  const results: CniResult[] = [];
  for (const [index, host] of hosts.entries()) results.push(await host.must("add", pods[index]));

  for (const [index, result] of results.entries()) {
    const { FLANNEL_SUBNET, FLANNEL_MTU } = await cluster.node(Math.min(index, 1)).env();
    assert.equal(result.ips[0].gateway, FLANNEL_SUBNET.split("/")[0]);
    assert.equal(result.interfaces[0].name, "cni0");
    assert.equal(result.interfaces[2].sandbox, `/run/netns/${pods[index].name}`);
    const [link] = JSON.parse(await pods[index].run("ip", "-j", "link", "show", "eth0"));
    assert.deepEqual([link.mtu, link.address], [Number(FLANNEL_MTU), result.interfaces[2].mac]);
    const dst = result.routes.map((route) => route.dst);
    assert.deepEqual(dst, ["10.1.0.0/16", "fd00:1::/48", "0.0.0.0/0", "::/0"]);
  }
  for (const family of [4, 6] as const) {
    await waitReach(pods[0], ipOf(results[1], family));
    await waitReach(pods[1], ipOf(results[0], family));
    await waitReach(pods[1], ipOf(results[2], family));
  }
  // A full packet, so that the pods' MTU is the overlay's.
  const { FLANNEL_MTU } = await cluster.node(1).env();
  const size = String(Number(FLANNEL_MTU) - 28);
  await pods[1].run("ping", "-c1", "-W5", "-Mdo", "-s", size, ipOf(results[0], 4));

  for (const [index, host] of hosts.entries()) await host.must("check", pods[index]);
  for (const [index, host] of hosts.entries()) {
    await host.must("del", pods[index]);
    // Once more: there is nothing, which is as good.
    await host.must("del", pods[index]);
    const link = await pods[index].exec("ip", "link", "show", "eth0");
    assert.notEqual(link.code, 0, link.stdout);
  }
  for (const host of [debian, own]) assert.deepEqual(await host.leftovers(), []);
});

Deno.test("cni: DEL after the container is gone, and by whichever plugin is there then", () =>
  withHost([], async (host, [one, two]) => {
    await host.configure("1.0.0", { delegate: { ipMasq: true } });
    const first = await host.must("add", one);
    const { network: name } = host;
    const rules = await host.ns.run("iptables", "-t", "nat", "-S");
    assert.match(rules, new RegExp(`^-A POSTROUTING -s ${ipOf(first, 4)}/32 .*${name}`, "m"));
    const second = await host.must("add", two);
    assert.notEqual(ipOf(first, 4), ipOf(second, 4));
    host.plugins.push(DEBIAN_PLUGINS);
    await one[Symbol.asyncDispose]();
    await host.must("del", one);
    assert.equal((await host.ns.run("iptables", "-t", "nat", "-S")).split(name).length, 1 + 3);
    await host.must("del", two);
    assert.deepEqual(await host.leftovers(), []);
  }));

Deno.test("cni: CHECK tells what is not as ADD left it", () =>
  withHost([], async (host, [pod]) => {
    await host.configure("0.4.0", { delegate: { isDefaultGateway: true } });
    const result = await host.must("add", pod);
    assert.equal(result.ips[1].version, "6");
    await host.must("check", pod);
    const fails = async (message: RegExp) => {
      const { code, stderr } = await host.cnitool("check", pod);
      assert.equal(code, 1, stderr);
      assert.match(stderr, message);
    };
    await pod.run("ip", "route", "delete", "default");
    await fails(/eth0: the container lacks the route 0\.0\.0\.0\/0 via 10\.1\.40\.1/);
    await pod.run("ip", "address", "flush", "dev", "eth0", "scope", "global");
    await fails(
      /eth0 lacks the address 10\.1\.40\.2\/24; eth0 lacks the address fd00:1:0:5::2\/64/,
    );
    await host.ns.run("ip", "link", "set", result.interfaces[1].name, "nomaster");
    await fails(new RegExp(`${result.interfaces[1].name} is not a port of cni0`));
    await pod.run("ip", "link", "delete", "eth0");
    await fails(/there is no veth\w+; there is no eth0 in the container/);
    await host.must("del", pod);
    assert.deepEqual(await host.leftovers(), []);
    await fails(/^\/.* has no record of /);
    const container = host.container("none", pod);
    const checked = await host.call("CHECK", host.config("1.0.0"), container);
    assertError(
      checked,
      3,
      /^\/.* has no record of none eth0: it was never added, or has been deleted$/,
    );
  }));

Deno.test("cni: STATUS and GC by our own bridge", () =>
  withHost([], async (host, [one, two]) => {
    await host.configure("1.1.0");
    await host.must("status", one);
    await Deno.rename(host.subnetFile, `${host.subnetFile}.away`);
    const missing = /open \/.*subnet\.env: no such file or directory: flanneld has no lease/;
    assertError(await host.call("STATUS", host.config("1.1.0")), 50, missing);
    await Deno.rename(`${host.subnetFile}.away`, host.subnetFile);
    const result = await host.must("add", one);
    assert.deepEqual(result.interfaces.map(({ mtu }) => mtu), [1450, 1450, 1450]);
    const kept = host.container("kept", two);
    assert.equal((await host.call("ADD", host.config("1.1.0"), kept)).code, 0);
    await Deno.remove(host.subnetFile);
    assertError(await host.call("STATUS", host.config("1.1.0")), 51, missing);
    await Deno.writeTextFile(host.subnetFile, SUBNET_FILE);

    // The runtime has lost its memory of the first container, which lives on.
    await host.loseResults();
    const valid = [{ containerID: "kept", ifname: "eth0" }];
    const config = { ...host.config("1.1.0"), "cni.dev/valid-attachments": valid };
    assert.deepEqual(await host.call("GC", config), { code: 0, answer: {} });
    const left = await host.leftovers();
    assert.deepEqual(left.slice(0, 3), ["kept", "10.1.40.3", "fd00:1:0:5::3"]);
    assert.equal(left.filter((line) => line.includes("veth")).length, 1);
    assert.notEqual((await one.exec("ip", "link", "show", "eth0")).code, 0);
    await two.run("ping", "-c1", "-W5", "10.1.40.1");
    // Also what is reserved for a container that is in no list of attachments.
    await Deno.writeTextFile(`${host.ipamDir}/${host.network}/10.1.40.9`, "lost\r\neth0");
    await host.must("gc", one);
    assert.deepEqual(await host.leftovers(), []);
  }));

Deno.test("cni: a delegate gets each command with its config, and its errors come through", () =>
  withHost([CNI_TOOLS], async (host, [pod]) => {
    const [debugFile, commandLog] = [`${host.folder}/debug`, `${host.folder}/log`];
    const delegate = { type: "noop", debugFile, commandLog };
    const config = host.config("1.1.0", { delegate, runtimeConfig: { mac: "02:00:00:00:00:09" } });
    const container = host.container("abc", pod);
    const prevResult = { cniVersion: "1.1.0", ips: [{ address: "10.1.40.7/24" }] };
    const report = (debug: unknown) => Deno.writeTextFile(debugFile, JSON.stringify(debug));
    const commands = async () => {
      const log = JSON.parse(await Deno.readTextFile(commandLog)) as {
        Command: string;
        CmdArgs: { StdinData: string; ContainerID: string };
      }[];
      return log.map(({ Command, CmdArgs }) => ({
        command: Command,
        id: CmdArgs.ContainerID,
        stdin: JSON.parse(atob(CmdArgs.StdinData)),
      }));
    };
    await Deno.writeTextFile(commandLog, "");
    await report({ ReportResult: JSON.stringify(prevResult) });
    assert.deepEqual((await host.call("ADD", config, container)).answer, prevResult);
    await report({});
    await host.call("STATUS", config);
    const valid = [{ containerID: "abc", ifname: "eth0" }];
    await host.call("GC", { ...config, "cni.dev/valid-attachments": valid });
    assert.equal((await host.call("CHECK", { ...config, prevResult }, container)).code, 0);
    assert.equal((await host.call("DEL", { ...config, prevResult }, container)).code, 0);
    const log = await commands();
    assert.deepEqual(log.map(({ command, id }) => `${command} ${id}`), [
      "ADD abc",
      "STATUS ",
      "GC ",
      "CHECK abc",
      "DEL abc",
    ]);
    const conf = {
      cniVersion: "1.1.0",
      name: host.network,
      ...delegate,
      ipMasq: false,
      mtu: 1450,
      runtimeConfig: { mac: "02:00:00:00:00:09" },
      ipam: {
        type: "host-local",
        dataDir: host.ipamDir,
        ranges: [[{ subnet: "10.1.40.0/24" }], [{ subnet: "fd00:1:0:5::/64" }]],
        routes: [{ dst: "10.1.0.0/16" }, { dst: "fd00:1::/48" }],
      },
    };
    assert.deepEqual(log[0].stdin, conf);
    assert.deepEqual(log[2].stdin, { ...conf, "cni.dev/valid-attachments": valid });
    assert.deepEqual(log[3].stdin, { ...conf, prevResult });
    assert.deepEqual(log[4].stdin, { ...conf, prevResult });

    await report({ ReportError: "no luck", ReportErrorCode: 42 });
    const failed = await host.call("ADD", config, container);
    assertError(failed, 42, /^plugin noop failed \(ADD\): no luck$/);
    assert.equal((await commands()).at(-1)?.command, "DEL");
    assertError(await host.call("STATUS", config), 50, /^plugin noop failed \(STATUS\): no luck$/);
    // What could not be deleted is known until it is.
    const deleted = await host.call("DEL", config, container);
    assertError(deleted, 42, /^plugin noop failed \(DEL\): no luck$/);
    await report({});
    assert.equal((await host.call("DEL", config, container)).code, 0);
    assert.deepEqual(await host.leftovers(), []);
  }));

/** Ways in which a power cut, a full disk or somebody's hand may leave a state file. */
const DAMAGE: Record<string, (file: string) => Promise<void>> = {
  truncated: async (file) => await Deno.truncate(file, 40),
  "cut before its last brace": async (file) =>
    await Deno.truncate(file, (await Deno.stat(file)).size - 1),
  empty: async (file) => await Deno.truncate(file, 0),
  garbage: async (file) => await Deno.writeFile(file, crypto.getRandomValues(new Uint8Array(64))),
  "zeros": async (file) => await Deno.writeFile(file, new Uint8Array(512)),
  "somebody else's JSON": async (file) => await Deno.writeTextFile(file, '{"type":5,"x":[]}'),
  "a list": async (file) => await Deno.writeTextFile(file, "[1]"),
  "a plugin outside of CNI_PATH": async (file) =>
    await Deno.writeTextFile(file, '{"type":"../evil","name":"x","ipam":{}}'),
  "this plugin": async (file) =>
    await Deno.writeTextFile(file, '{"type":"flannel","name":"x","ipam":{}}'),
  "a folder": async (file) => {
    await Deno.remove(file);
    await Deno.mkdir(file);
  },
  "a link to itself": async (file) => {
    await Deno.remove(file);
    await Deno.symlink(file, file);
  },
};

for (const [plugins, by] of [[[DEBIAN_PLUGINS], "Debian's bridge"], [[], "our own"]] as const) {
  Deno.test(`cni: DEL with a broken state file warns and leaves nothing, by ${by}`, () =>
    withHost([...plugins], async (host, [pod]) => {
      const config = host.config("1.0.0", { delegate: { ipMasq: true } });
      for (const [damage, inflict] of Object.entries(DAMAGE)) {
        const container = host.container("abc", pod);
        assert.equal((await host.call("ADD", config, container)).code, 0, damage);
        await inflict(`${host.dataDir}/abc`);
        const checked = await host.call("CHECK", { ...config, prevResult: {} }, container);
        assertError(checked, 3, /^the state file .*\/abc is broken: /);
        const { code, stdout, stderr } = await host.callRaw("DEL", config, container);
        assert.deepEqual([code, stdout], [0, ""], `${damage}: ${stderr}`);
        assert.match(
          stderr,
          /^flanneld: warning: the state file .*\/abc is broken: [^\n]+\n$/,
          damage,
        );
        assert.deepEqual(await host.leftovers(), [], damage);
        assert.notEqual((await pod.exec("ip", "link", "show", "eth0")).code, 0, damage);
        // Once more: nothing is known of it any more.
        assert.deepEqual(await host.callRaw("DEL", config, container), {
          code,
          stdout,
          stderr: "",
        });
      }
    }));

  Deno.test(`cni: DEL with a broken state file works without namespace and lease, by ${by}`, () =>
    withHost([...plugins], async (host, [one, two]) => {
      const config = host.config("1.0.0", { delegate: { ipMasq: true } });
      const container = host.container("abc", one);
      const { answer: prevResult } = await host.call("ADD", config, container);
      await Deno.truncate(`${host.dataDir}/abc`, 20);
      await Deno.remove(host.subnetFile);
      await one[Symbol.asyncDispose]();
      // Runtimes pass the result from 0.4.0 on.
      const deleted = await host.callRaw("DEL", { ...config, prevResult }, container);
      assert.equal(deleted.code, 0, deleted.stdout + deleted.stderr);
      assert.deepEqual(await host.leftovers(), []);
      await Deno.writeTextFile(host.subnetFile, SUBNET_FILE);
      assert.equal((await host.call("ADD", config, host.container("def", two))).code, 0);
      await Deno.writeTextFile(`${host.dataDir}/def`, "");
      await Deno.writeTextFile(host.subnetFile, "FLANNEL_MTU=x\n");
      const again = await host.callRaw("DEL", config, host.container("def", two));
      assert.equal(again.code, 0, again.stdout + again.stderr);
      const left = (await host.leftovers()).filter((line) => !/CNI-/.test(line));
      assert.deepEqual(left, []);
    }));
}

Deno.test("cni: GC removes broken state files of its network and what they stand for", () =>
  withHost([], async (host, [one, two, three]) => {
    const config = host.config("1.1.0");
    const pods = { gone: one, kept: two, elsewhere: three };
    for (const [id, pod] of Object.entries(pods)) {
      assert.equal((await host.call("ADD", config, host.container(id, pod))).code, 0);
    }
    await Deno.truncate(`${host.dataDir}/gone`, 30);
    await Deno.truncate(`${host.dataDir}/kept`, 30);
    await Deno.writeTextFile(`${host.dataDir}/elsewhere`, '{"name":"other","type":');
    const stale = `${host.dataDir}/.12345.tmp`;
    await Deno.writeTextFile(stale, "{");
    await Deno.utime(stale, 0, 0);
    await Deno.writeTextFile(`${host.dataDir}/.12346.tmp`, "{");
    await one[Symbol.asyncDispose]();
    const valid = ["kept", "elsewhere"].map((containerID) => ({ containerID, ifname: "eth0" }));
    const input = { ...config, "cni.dev/valid-attachments": valid.slice(0, 1) };
    const { code, stderr } = await host.callRaw("GC", input);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /the state file .*\/gone is broken/);
    assert.doesNotMatch(stderr, /\/(kept|elsewhere) is broken/);
    const names = [...Deno.readDirSync(host.dataDir)].map(({ name }) => name).sort();
    assert.deepEqual(names, [".12346.tmp", "elsewhere", "kept"]);
    assert.ok(!(await host.leftovers()).includes("10.1.40.2"), "the address of gone");
    await two.run("ping", "-c1", "-W5", "10.1.40.1");
  }));

Deno.test("cni: DEL without the delegate's plugin releases what it can, with a warning", () =>
  withHost([DEBIAN_PLUGINS], async (host, [pod]) => {
    const config = host.config("1.0.0", { delegate: { type: "ptp" } });
    const container = host.container("abc", pod);
    assert.equal((await host.call("ADD", config, container)).code, 0);
    // As after an upgrade that left the plugins out, host-local included.
    host.plugins.pop();
    const { code, stdout, stderr } = await host.callRaw("DEL", config, container);
    assert.equal(code, 0, stdout);
    assert.match(stderr, /^flanneld: warning: no plugin "ptp" in [^\n]+\n$/);
    assert.deepEqual(await host.leftovers(), []);
    assert.notEqual((await pod.exec("ip", "link", "show", "eth0")).code, 0);
  }));

Deno.test("cni: what is wrong is told by its code and in one line", () =>
  withHost([], async (host, [pod]) => {
    const container = host.container("abc", pod);
    const add = (more: Record<string, unknown>, env = container, version = "1.0.0") =>
      host.call("ADD", host.config(version, more), env);
    assertError(await host.call("ADD", "{", container), 6, /^the network config is not JSON: /);
    assertError(await host.call("FROB", {}), 4, /^CNI_COMMAND "FROB" is not known$/);
    assertError(await add({}, { CNI_IFNAME: "eth0" }), 4, /^ADD needs CNI_CONTAINERID, CNI_NETNS$/);
    assertError(await add({}, container, "9.0.0"), 1, /^cniVersion "9\.0\.0" is not supported$/);
    assertError(
      await add({ subnetFile: "/nonexistent/subnet.env" }),
      11,
      /^open \/nonexistent\/subnet\.env: no such file or directory: flanneld has no lease on this/,
    );
    assertError(
      await add({ delegate: { name: "x" } }),
      7,
      /^delegate must not have "name": the plugin sets it$/,
    );
    assertError(
      await add({ delegate: { type: "ipvlan" } }),
      7,
      /^no plugin "ipvlan" in \/.*\/bin$/,
    );
    assertError(
      await add({ delegate: { vlan: 7 } }),
      2,
      /^delegate\.vlan 7 is not supported by flanneld's own bridge$/,
    );
    assertError(
      await add({}, { ...container, CNI_NETNS: "/run/netns/none" }),
      100,
      /^the container's network namespace \/run\/netns\/none: No such file/,
    );
    assertError(
      await add({}, { ...container, CNI_NETNS: `/run/netns/${host.ns.name}` }),
      100,
      /^the container's network namespace .* is this host's own$/,
    );
    await pod.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far");
    assertError(await add({}), 100, /^the container already has an interface eth0$/);
    // The runtime calls DEL after an ADD that failed; what was there before is not ours.
    assert.equal((await host.call("DEL", host.config("1.0.0"), container)).code, 0);
    await pod.run("ip", "link", "delete", "eth0");
    await host.ns.run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1");
    assertError(
      await add({ delegate: { bridge: "veth0" } }),
      100,
      /^veth0 exists and is not a bridge$/,
    );
    await host.ns.run("ip", "link", "delete", "veth0");
    await host.ns.run("ip", "link", "add", "cni0", "type", "bridge");
    await host.ns.run("ip", "address", "add", "10.9.0.1/24", "dev", "cni0");
    assertError(
      await add({}),
      100,
      /^cni0 has the address 10\.9\.0\.1\/24, not 10\.1\.40\.1\/24: remove it, or set forceAddress$/,
    );
    // Nothing is left of all the attempts, and an address is still to be had.
    assert.deepEqual(await host.leftovers(), []);
    assert.equal((await add({ delegate: { forceAddress: true } })).code, 0);
    assertError(await add({}), 100, /^abc eth0 already has the address 10\.1\.40\.\d+$/);
    await pod.run("ping", "-c1", "-W5", "10.1.40.1");
    assert.equal((await host.call("DEL", host.config("1.0.0"), container)).code, 0);
    assert.deepEqual(await host.leftovers(), []);
  }));

Deno.test("cni: VERSION, and a call without a command", () =>
  withHost([], async (host) => {
    assert.deepEqual((await host.call("VERSION", { cniVersion: "0.4.0" })).answer, {
      cniVersion: "0.4.0",
      supportedVersions: ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
    const { code, stdout, stderr } = await host.ns.exec(host.program);
    assert.deepEqual([code, stdout], [0, ""]);
    assert.match(
      stderr,
      /^flanneld v\S+ as CNI plugin, for versions 0\.3\.0, .*: a container runtime/,
    );
  }));

Deno.test("cni: containers added at once to a host without a bridge", () =>
  withHost([], async (host, pods) => {
    await host.configure("1.0.0", { delegate: { ipMasq: true } });
    const results = await Promise.all(pods.map((pod) => host.must("add", pod)));
    const addresses = results.map((result) => ipOf(result, 4)).sort();
    assert.deepEqual(addresses, ["10.1.40.2", "10.1.40.3", "10.1.40.4", "10.1.40.5"]);
    for (const [index, pod] of pods.entries()) {
      await pod.run("ping", "-c1", "-W5", ipOf(results[(index + 1) % pods.length], 4));
    }
    await Promise.all(pods.map((pod) => host.must("del", pod)));
    assert.deepEqual(await host.leftovers(), []);
  }));
