/** `flanneld doctor`: nothing to say of a healthy node, and what it says of one that is not. */
import assert from "node:assert/strict";
import type { DoctorReport } from "../../doctor/report.ts";
import { Cluster, HEALTH_PORT, networkConfig, type Node, PREFIX } from "../../testbed/cluster.ts";
import { assertReach, eventually, runFlanneld, terminate } from "./support.ts";

/** Milliseconds that it may take, whatever hangs, on a busy machine. */
const LIMIT = 20_000;

/** Runs it with the flags of the node's agent. */
async function doctor(node: Node, ...args: string[]): Promise<DoctorReport & { code: number }> {
  const start = performance.now();
  const { code, stdout, stderr } = await runFlanneld(
    node,
    ...["doctor", "--json", `--subnet-file=${node.subnetFile}`, "--bridge=cni0"],
    ...[`--healthz-port=${HEALTH_PORT}`, ...node.cluster.etcdArgs(), ...args],
  );
  assert.equal(stderr, "");
  assert.ok(performance.now() - start < LIMIT, `${performance.now() - start} ms`);
  const report = JSON.parse(stdout) as DoctorReport;
  assert.equal(code, report.summary.fail > 0 ? 1 : 0);
  return { ...report, code };
}

/** The findings of this verdict, as text. */
function of({ findings }: DoctorReport, ...verdicts: string[]): string[] {
  return findings.filter(({ verdict }) => verdicts.includes(verdict))
    .map(({ verdict, area, check, detail, fix }) =>
      `${verdict} [${area}] ${check}: ${detail} | ${fix ?? ""}`
    );
}

/** Asserts that the complaints are these, one each and no others. */
function assertComplaints(report: DoctorReport, ...expected: RegExp[]): void {
  const found = of(report, "warn", "fail");
  const text = found.join("\n");
  assert.equal(found.length, expected.length, `${expected.join("\n")}\n\n${text}`);
  for (const each of expected) assert.ok(found.some((line) => each.test(line)), `${each}\n${text}`);
}

/** Makes a change, runs the doctor, and takes the change back. */
async function during<T>(
  make: () => Promise<unknown>,
  undo: () => Promise<unknown>,
  look: () => Promise<T>,
): Promise<T> {
  await make();
  try {
    return await look();
  } finally {
    await undo();
  }
}

Deno.test("doctor on a vxlan node of both families: healthy, and then not", async (t) => {
  await using cluster = await Cluster.create({ label: "doctor", families: "dual" });
  const [node, peer] = cluster.nodes;
  const { ns } = node;
  const ip = (...args: string[]) => ns.run("ip", ...args);
  await cluster.startAgents();
  const [a, b] = await cluster.attachAll("c1");
  await assertReach(a, b);

  await t.step("a healthy node passes everything", async () => {
    await eventually(async () => assertComplaints(await doctor(node)), { limitMs: 60_000 });
    const report = await doctor(node);
    const passed = of(report, "pass").join("\n");
    for (
      const line of [
        /capabilities: CAP_NET_ADMIN and CAP_NET_RAW/,
        /agent: runs/,
        /etcd http:\S+: answers in [\d.]+ ms/,
        /network config: 10\.1\.0\.0\/16 and fd00:1::\/48, backend vxlan/,
        /interface: eth0 with 192\.168\.77\.11 and fd77::11, MTU 1500: .*default route \(metric 0\)/,
        /lease: 10\.1\.\d+\.0\/24 and fd00:1:\S+\/64, announced as 192\.168\.77\.11, expires in 23 h/,
        /subnet file: .* matches the lease/,
        /device flannel\.1: vxlan, VNI 1, port 8472, MTU 1450, up/,
        /device flannel-v6\.1: vxlan, VNI 1, port 8472, MTU 1430, up/,
        /routes: 2 routes, 2 neighbours, 2 forwarding entries in place/,
        /UDP port 8472: held by flannel\.1/,
        /offloads of flannel\.1: tx checksum on, GSO on/,
        /packet forwarding: on for flannel\.1, flannel-v6\.1, eth0, cni0/,
        /traffic rules: in place \(iptables\)/,
        /packet filters: nothing drops the overlay's packets/,
        /network overlap: .* overlaps no address or route/,
        /rp_filter: not strict/,
        /peers: 2 of 2 answer, in [\d.]+ to [\d.]+ ms/,
        /path MTU: packets of 1500 bytes reach the peers unfragmented/,
      ]
    ) assert.match(passed, line);
  });

  await t.step("as text: a line each, the remedy below, the summary at the end", async () => {
    const args = ["doctor", `--subnet-file=${node.subnetFile}`, ...cluster.etcdArgs()];
    const { code, stdout } = await runFlanneld(node, ...args);
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^pass {2}capabilities: /);
    assert.match(stdout, /\n\d+ passed, 0 warnings, 0 failed\n$/);
    const away = await runFlanneld(node, "doctor", "--etcd-endpoints=http://127.0.0.1:9");
    assert.equal(away.code, 1);
    assert.match(
      away.stdout,
      /^fail {2}etcd http:\/\/127\.0\.0\.1:9: .*\n {6}fix: check that etcd/m,
    );
    assert.match(away.stdout, /^pass {2}interface: eth0/m, "the rest is examined all the same");
  });

  await t.step("an etcd that is silent holds nothing up; one of two is a warning", async () => {
    const silent = "http://192.0.2.7:2379";
    const report = await doctor(node, `--etcd-endpoints=${silent}`);
    assertComplaints(report, /^fail \[etcd\] etcd http:\/\/192\.0\.2\.7/, /^warn \[doctor\]/);
    const both = await doctor(node, `--etcd-endpoints=${silent},${cluster.etcd.endpoint}`);
    assertComplaints(both, /^warn \[etcd\] etcd http:\/\/192\.0\.2\.7/);
  });

  await t.step("a network config that is missing, invalid or has unknown keys", async () => {
    const good = networkConfig("dual");
    for (
      const [config, line] of [
        ["no JSON", /^fail \[config\] network config: .*JSON.*\| flanneld config set/],
        [{ ...good, Backend: { Type: "vxlam" } }, /^fail \[config\].*vxlam.*did you mean vxlan/],
        [
          undefined,
          /^fail \[config\] network config: not found in etcd at .*\| flanneld config set/,
        ],
      ] as const
    ) {
      if (config) await cluster.writeConfig(config);
      else await cluster.etcd.ctl("del", `${PREFIX}/config`);
      assertComplaints(await doctor(node), line, /^warn \[doctor\]/);
    }
    await cluster.writeConfig({ ...good, Backand: 1 });
    assertComplaints(await doctor(node), /^warn \[config\].*Backand/);
    await cluster.writeConfig(good);
  });

  await t.step("packets of full size that a router on the path must not fragment", async () => {
    const far = `${peer.ipv4}/32`;
    const router = cluster.switch;
    await router.sysctl("net.ipv4.ip_forward", 1);
    await router.sysctl("net.ipv4.conf.br0.send_redirects", 0);
    await router.sysctl("net.ipv4.conf.all.send_redirects", 0);
    const report = await during(
      async () => {
        await router.run("ip", "route", "add", far, "dev", "br0", "mtu", "lock", "1404");
        await ip("route", "add", far, "via", "192.168.77.1");
      },
      async () => {
        await ip("route", "del", far);
        await router.run("ip", "route", "del", far);
      },
      () => doctor(node),
    );
    assertComplaints(
      report,
      /^fail \[peers\] path MTU: .*\(192\.168\.77\.12\) carries packets of up to 1404 bytes .*sends 1500 \|.*"MTU": 1404/,
    );
  });

  await t.step("a peer that is away", async () => {
    const report = await during(
      () => cluster.switch.run("ip", "link", "set", "p1", "down"),
      () => cluster.switch.run("ip", "link", "set", "p1", "up"),
      () => doctor(node),
    );
    assertComplaints(
      report,
      /^fail \[peers\] peers: 10\.1\.\S+ \(192\.168\.77\.12\) does not answer.*\| check that/,
      /^fail \[peers\] peers: fd00:1:\S+ \(fd77::12\) does not answer/,
    );
  });

  await t.step("packet forwarding that is off", async () => {
    const report = await during(
      () => ns.sysctl("net.ipv4.conf.flannel/1.forwarding", 0),
      () => ns.sysctl("net.ipv4.conf.flannel/1.forwarding", 1),
      () => doctor(node),
    );
    assertComplaints(report, /^fail \[forwarding\].*flannel\/1.*sysctl -w net\.ipv4\.ip_forward=1/);
  });

  await t.step("an address and routes in the overlay's network", async () => {
    const report = await during(
      async () => {
        await ip("link", "add", "br9", "type", "bridge");
        await ip("address", "add", "10.1.250.9/24", "dev", "br9");
        await ip("link", "set", "br9", "up");
        await ip("route", "add", "fd00:1:0:7::/64", "via", "fd77::1", "table", "99");
        // Neither the containers' own nor those that any narrower route wins over.
        await ip("route", "add", "0.0.0.0/1", "via", "192.168.77.1");
        await ip("route", "add", "blackhole", "10.0.0.0/8");
      },
      async () => {
        await ip("link", "del", "br9");
        await ip("-6", "route", "del", "fd00:1:0:7::/64", "table", "99");
        await ip("route", "del", "0.0.0.0/1");
        await ip("route", "del", "10.0.0.0/8");
      },
      () => doctor(node),
    );
    assert.equal(report.code, 0);
    assertComplaints(
      report,
      /^warn \[overlap\].*10\.1\.0\.0\/16 overlaps the address 10\.1\.250\.9\/24 on br9/,
      /^warn \[overlap\].*fd00:1::\/48 overlaps the route fd00:1:0:7::\/64 via fd77::1 .*table 99/,
    );
  });

  await t.step("a strict reverse path filter: only where it drops packets", async () => {
    await ns.sysctl("net.ipv4.conf.all.rp_filter", 1);
    const harmless = await doctor(node);
    assertComplaints(harmless);
    assert.match(of(harmless, "pass").join("\n"), /rp_filter: strict, and drops no peer's packets/);
    const far = `${peer.ipv4}/32`;
    const report = await during(
      async () => {
        await ip("link", "add", "br9", "type", "bridge");
        await ip("address", "add", "192.168.88.2/24", "dev", "br9");
        await ip("link", "set", "br9", "up");
        await ip("route", "add", far, "via", "192.168.88.1", "dev", "br9", "onlink");
      },
      async () => {
        await ip("link", "del", "br9");
        await ns.sysctl("net.ipv4.conf.all.rp_filter", 0);
      },
      () => doctor(node),
    );
    const text = of(report, "warn").join("\n");
    assert.match(
      text,
      /^warn \[rp_filter\].*strict rp_filter on eth0 drops packets from 192\.168\.77\.12.*net\.ipv4\.conf\.eth0\.rp_filter=2/m,
    );
  });

  await t.step("an interface that is not there", async () => {
    const report = await doctor(node, "--iface=eth8");
    assertComplaints(report, /^fail \[interface\].*--iface=eth8.*\| name an/, /^warn \[doctor\]/);
  });

  await t.step("a peer whose agent and device are gone", async () => {
    await terminate(peer.agent!);
    await peer.ns.run("ip", "link", "del", "flannel.1");
    await peer.ns.run("ip", "link", "del", "flannel-v6.1");
    assertComplaints(
      await doctor(node),
      /^fail \[peers\].*\(192\.168\.77\.12\) answers at its public address but not through the overlay.*UDP port 8472/,
      /^fail \[peers\].*\(fd77::12\) answers at its public address but not through/,
    );
    peer.startAgent();
    await peer.waitReady();
  });

  await t.step("without the agent: a warning, and failures for what is missing", async () => {
    await terminate(node.agent!);
    const stopped = /^warn \[agent\] agent: flanneld does not run .*systemctl start flanneld/;
    assertComplaints(await doctor(node), stopped);
    await ns.run("iptables", "-F", "FLANNEL-FWD");
    assertComplaints(
      await doctor(node),
      stopped,
      /^fail \[rules\].*iptables filter: missing -s 10\.1\.0\.0\/16 -j ACCEPT \| start flanneld/,
      /^fail \[rules\].*iptables filter: missing -d 10\.1\.0\.0\/16 -j ACCEPT \| start flanneld/,
    );
    await ns.run("iptables", "-P", "FORWARD", "DROP");
    const dropping = await doctor(node);
    assert.match(
      of(dropping, "fail").join("\n"),
      /^fail \[rules\] packet filters: .*drops forwarded packets of 10\.1\.0\.0\/16.*\| remove that/m,
    );
    await ns.run("iptables", "-P", "FORWARD", "ACCEPT");
    await ip("link", "del", "flannel.1");
    const listen = 'Deno.listenDatagram({ port: 8472, hostname: "0.0.0.0", transport: "udp" });' +
      "console.log('listening'); setInterval(() => {}, 1e6)";
    await using holder = ns.spawn(Deno.execPath(), [
      ...["eval", "--no-config", "--unstable-net", listen],
    ]);
    await holder.waitForLine(/^listening$/, 30_000);
    const report = of(await doctor(node), "fail").join("\n");
    assert.match(report, /^fail \[kernel\] device flannel\.1: the device does not exist \| start/m);
    assert.match(
      report,
      /^fail \[vxlan\] UDP port 8472: in use by deno \(process \d+\).*\| stop deno or set Backend\.Port/m,
    );
  });

  await t.step("it changed nothing: the agent finds its lease and carries on", async () => {
    node.startAgent();
    await node.waitReady();
    await eventually(async () => assertComplaints(await doctor(node)), { limitMs: 60_000 });
  });
});

Deno.test("doctor on a udp node: its port, its TUN device and the peers", async () => {
  const network = networkConfig("ipv4", { Type: "udp" });
  await using cluster = await Cluster.create({ label: "doctorudp", network });
  const [node, peer] = cluster.nodes;
  await cluster.startAgents();
  await eventually(async () => assertComplaints(await doctor(node)), { limitMs: 60_000 });
  const passed = of(await doctor(node), "pass").join("\n");
  for (
    const line of [
      /device flannel0: tun, port 8285, MTU 1472, up/,
      /UDP port 8285: held by the agent/,
      /offloads of flannel0: tx checksum on, TSO on, USO on/,
      /peers: 1 of 1 answer/,
      /path MTU: packets of 1500 bytes/,
    ]
  ) assert.match(passed, line);
  const onLo = await during(
    () => node.ns.run("ip", "address", "add", "192.0.2.77/32", "dev", "lo"),
    () => node.ns.run("ip", "address", "del", "192.0.2.77/32", "dev", "lo"),
    () => doctor(node, "--iface=192.0.2.77"),
  );
  assert.match(
    of(onLo, "warn").join("\n"),
    /^warn \[interface\].*192\.0\.2\.77 is on lo, whose MTU \(65536\).*using 1500.*\| lower the MTU/m,
  );
  await terminate(peer.agent!);
  assertComplaints(
    await doctor(node),
    /^fail \[peers\].*answers at its public address but not through the overlay.*UDP port 8285/,
  );
  await terminate(node.agent!);
  const failed = of(await doctor(node), "fail").join("\n");
  assert.match(failed, /^fail \[kernel\] device flannel0: the device does not exist/m);
});

Deno.test("doctor on a host-gw node that never ran, and then on one that does", async () => {
  const network = networkConfig("ipv4", { Type: "host-gw" });
  await using cluster = await Cluster.create({ label: "doctorgw", network });
  const [node] = cluster.nodes;
  const before = await doctor(node);
  assert.equal(before.code, 0, "nothing is broken before the first start");
  assertComplaints(
    before,
    /^warn \[agent\]/,
    /^warn \[lease\] lease: etcd has no lease for this node .*\| start flanneld/,
    /^warn \[subnet file\]/,
  );
  await cluster.startAgents();
  await eventually(async () => assertComplaints(await doctor(node)), { limitMs: 60_000 });
  assert.match(of(await doctor(node), "pass").join("\n"), /routes: 1 route in place/);
});
