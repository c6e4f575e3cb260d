import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { Commands, createTrafficRules, type RuleInput, trafficRules } from "../../traffic/mod.ts";
import { filterHost as host, topology } from "../../testbed/filter_host.ts";
import { NetNs, waitFor } from "../../testbed/netns.ts";

const INPUT: RuleInput = {
  ipv4: { network: "10.1.0.0/16", subnet: "10.1.5.0/24" },
  ipv6: { network: "fd00:1::/48", subnet: "fd00:1:0:5::/64" },
  ipMasq: true,
  randomFully: true,
  forwardRules: true,
};
const WANTED = trafficRules(INPUT);
const NOTHING = { changed: [], errors: [] };
const VARIANTS = ["nft", "legacy"] as const;

/** How often `part` is in `text`. */
function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

for (const variant of VARIANTS) {
  Deno.test(`iptables-${variant}: rules go in, and a second time changes nothing`, async () => {
    await using h = await host(variant);
    await h.ipt("-P", "FORWARD", "DROP");
    const { changed, errors } = await h.rules.ensure(WANTED);
    assert.deepEqual(errors, []);
    assert.ok(changed.includes("iptables filter: policy of FORWARD set to ACCEPT"), `${changed}`);
    const forward = await h.ipt("-S", "FORWARD");
    assert.equal(
      forward,
      "-P FORWARD ACCEPT\n" +
        '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD\n',
    );
    assert.equal(
      await h.ipt("-S", "FLANNEL-FWD"),
      "-N FLANNEL-FWD\n" +
        '-A FLANNEL-FWD -s 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT\n' +
        '-A FLANNEL-FWD -d 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT\n',
    );
    const six = await h.save("ip6tables");
    assert.equal(count(six, "-A FLANNEL-POSTRTG "), 6, six);
    assert.equal(count(six, "-A FLANNEL-FWD -s fd00:1::/48 "), 1, six);
    assert.equal(count(six, "-j FLANNEL-POSTRTG"), 1, six);

    const before = [await h.save(), six];
    assert.deepEqual(await h.rules.ensure(WANTED), NOTHING);
    assert.deepEqual(await h.again().ensure(WANTED), NOTHING);
    assert.deepEqual([await h.save(), await h.save("ip6tables")], before);
  });

  Deno.test(`iptables-${variant}: what others take away is put back, what is theirs stays`, async () => {
    await using h = await host(variant);
    await h.ipt("-N", "DOCKER-USER");
    await h.ipt("-A", "FORWARD", "-j", "DOCKER-USER");
    await h.ipt("-A", "DOCKER-USER", "-s", "198.51.100.0/24", "-j", "DROP");
    await h.ipt("-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "-j", "MASQUERADE");
    const theirs = await h.save();
    await h.rules.ensure(WANTED);
    const right = await h.save();

    const harms: string[][] = [
      ["-F", "FLANNEL-FWD"],
      ["-t", "nat", "-D", "FLANNEL-POSTRTG", "2"],
      ["-t", "nat", "-I", "FLANNEL-POSTRTG", "1", "-j", "RETURN"],
      ["-P", "FORWARD", "DROP"],
      ["-A", "FORWARD", "-j", "FLANNEL-FWD"],
      ["-D", "FORWARD", "-m", "comment", "--comment", "flanneld forward", "-j", "FLANNEL-FWD"],
    ];
    for (const harm of harms) {
      await h.ipt(...harm);
      assert.notEqual(await h.save(), right, harm.join(" "));
      assert.deepEqual((await h.rules.ensure(WANTED)).errors, []);
      assert.equal(await h.save(), right, harm.join(" "));
    }
    await h.ipt("-F", "FORWARD");
    await h.ipt("-X", "FLANNEL-FWD").catch(() => h.ipt("-F", "FLANNEL-FWD"));
    await h.rules.ensure(WANTED);
    const forward = await h.ipt("-S", "FORWARD");
    assert.equal(count(forward, "-j FLANNEL-FWD"), 1, forward);

    const removed = await h.rules.remove();
    assert.ok(removed.some((line) => /removed chain FLANNEL-FWD/.test(line)), removed.join("\n"));
    // Flushed FORWARD above, so that Docker's jump is put back for the comparison.
    await h.ipt("-A", "FORWARD", "-j", "DOCKER-USER");
    assert.equal(await h.save(), theirs);
    assert.deepEqual(await h.rules.remove(), []);
  });

  Deno.test(`iptables-${variant}: what is switched off or of another network goes`, async () => {
    await using h = await host(variant);
    await h.rules.ensure(WANTED);
    const four = trafficRules({
      ...INPUT,
      ipv4: { network: "10.9.0.0/16", subnet: "10.9.1.0/24" },
      ipv6: null,
      ipMasq: false,
    });
    // By the same run and by a later one.
    for (const rules of [h.rules, h.again()]) {
      await h.rules.ensure(WANTED);
      assert.deepEqual((await rules.ensure(four)).errors, []);
      assert.doesNotMatch(await h.save("ip6tables"), /FLANNEL/);
      const save = await h.save();
      assert.doesNotMatch(save, /POSTRTG|10\.1\.0\.0/);
      assert.equal(count(save, "-A FLANNEL-FWD -s 10.9.0.0/16 "), 1, save);
    }
  });

  Deno.test(`iptables-${variant}: a change to nftables and back leaves one set of rules`, async () => {
    await using h = await host(variant);
    await h.rules.ensure(WANTED);
    const { errors } = await h.nftables().ensure(WANTED);
    assert.deepEqual(errors, []);
    assert.doesNotMatch(await h.save() + await h.save("ip6tables"), /FLANNEL/);
    assert.match(await h.ns.run("nft", "list", "tables"), /flannel-ipv4\n(.*\n)*.*flannel-ipv6/);
    assert.deepEqual((await h.again().ensure(WANTED)).errors, []);
    assert.doesNotMatch(await h.ns.run("nft", "list", "tables"), /flannel-/);
    assert.match(await h.save(), /FLANNEL-FWD/);
  });
}

Deno.test("keep puts rules back within its period, until it is stopped", async () => {
  await using h = await host("nft");
  const stop = new AbortController();
  const kept = h.rules.keep(WANTED, 0.3, stop.signal);
  const present = async () => (await h.ipt("-S")).includes("-A FLANNEL-FWD -d 10.1.0.0/16");
  try {
    await waitFor(present, { what: "rules to be there" });
    for (let round = 0; round < 2; round++) {
      await h.ipt("-F", "FLANNEL-FWD");
      await waitFor(present, { limitMs: 1500, what: "rules to be put back" });
    }
  } finally {
    stop.abort();
    await kept;
  }
  await h.ipt("-F", "FLANNEL-FWD");
  assert.equal(await present(), false);
});

Deno.test("keep of watched rules checks them when it is told of a change", async () => {
  await using h = await host("nft");
  const stop = new AbortController();
  const kept = h.rules.keep(WANTED, 0.1, stop.signal, true);
  const present = async () => (await h.ipt("-S")).includes("-A FLANNEL-FWD -d 10.1.0.0/16");
  try {
    await h.rules.looked;
    const tell = {
      "a change": () => h.rules.changed(),
      "the bridge's address": () => h.rules.addressChanged("10.1.5.1/24"),
    };
    for (const [what, told] of Object.entries(tell)) {
      await h.ipt("-F", "FLANNEL-FWD");
      // Neither time nor an address of something else is a reason.
      h.rules.addressChanged("10.1.6.1/24");
      await new Promise((done) => setTimeout(done, 1_000));
      assert.equal(await present(), false, what);
      told();
      await waitFor(present, { limitMs: 1_500, what: `rules to be put back after ${what}` });
    }
    const restore = `${h.folder}/iptables-restore`;
    await Deno.rename(restore, `${restore}-away`);
    await h.ipt("-F", "FLANNEL-FWD");
    h.rules.changed();
    await new Promise((done) => setTimeout(done, 500));
    await Deno.rename(`${restore}-away`, restore);
    await waitFor(present, { limitMs: 1_500, what: "another try after one that failed" });
  } finally {
    stop.abort();
    await kept;
  }
});

Deno.test("nftables: tables of its own, put back, replaced and removed", async () => {
  await using h = await host("nft");
  await h.ns.run("nft", "add table ip other; add chain ip other c; add rule ip other c accept");
  const other = await h.ns.run("nft", "list", "table", "ip", "other");
  const nftables = h.nftables();
  const first = await nftables.ensure(WANTED);
  assert.deepEqual(first, {
    changed: ["nftables: table ip flannel-ipv4", "nftables: table ip6 flannel-ipv6"],
    errors: [],
  });
  const list = () => h.ns.run("nft", "list", "table", "ip", "flannel-ipv4");
  const right = await list();
  assert.match(
    right,
    /ip saddr 10\.1\.0\.0\/16 ip daddr != 224\.0\.0\.0\/4 masquerade fully-random/,
  );
  assert.deepEqual(await nftables.ensure(WANTED), NOTHING);
  for (
    const harm of [
      "flush chain ip flannel-ipv4 forward",
      "delete table ip flannel-ipv4",
      "insert rule ip flannel-ipv4 postrtg return",
    ]
  ) {
    await h.ns.run("nft", harm);
    assert.deepEqual((await nftables.ensure(WANTED)).changed, ["nftables: table ip flannel-ipv4"]);
    assert.equal(await list(), right, harm);
  }
  const four = trafficRules({ ...INPUT, ipv6: null });
  assert.deepEqual((await nftables.ensure(four)).changed, [
    "nftables: removed table ip6 flannel-ipv6",
  ]);
  assert.deepEqual(await nftables.remove(), ["nftables: removed table ip flannel-ipv4"]);
  assert.equal(await h.ns.run("nft", "list", "ruleset"), other);
});

Deno.test("a host without iptables or nft is told so in one line, once", async () => {
  await using ns = await NetNs.create("tr");
  const folder = await Deno.makeTempDir();
  const records: LogRecord[] = [];
  await configure({
    sinks: { memory: (record) => records.push(record) },
    loggers: [
      { category: "flanneld", sinks: ["memory"], lowestLevel: "info" },
      { category: ["logtape", "meta"], sinks: [] },
    ],
  });
  try {
    const commands = new Commands({
      folders: [folder],
      prefix: ["ip", "netns", "exec", ns.name],
    });
    const only4 = trafficRules({ ...INPUT, ipv6: null });
    for (const [kind, tool] of [["iptables", "iptables-save"], ["nftables", "nft"]] as const) {
      const rules = createTrafficRules(kind, { commands });
      for (let round = 0; round < 2; round++) {
        const { errors } = await rules.ensure(only4);
        assert.equal(errors.length, 1);
        assert.match(errors[0], new RegExp(`^${tool} .*not found in .*: install `));
        assert.ok(!errors[0].includes("\n"));
      }
      assert.equal(records.filter(({ level }) => level === "error").length, 1);
      records.length = 0;
      assert.deepEqual(await rules.remove(), []);
      const off = trafficRules({ ...INPUT, forwardRules: false, ipMasq: false });
      assert.deepEqual(await rules.ensure(off), NOTHING);
      records.length = 0;
    }
  } finally {
    await reset();
    await Deno.remove(folder);
  }
});

/** Puts a script in a command's place. */
async function replace(path: string, lines: string[]): Promise<void> {
  await Deno.remove(path);
  await Deno.writeTextFile(path, ["#!/bin/sh", ...lines, ""].join("\n"), { mode: 0o755 });
}

Deno.test("an iptables that does not know --random-fully masquerades without it", async () => {
  await using h = await host("nft");
  const path = `${h.folder}/iptables-restore`;
  await replace(path, [
    "input=$(cat)",
    'case "$input" in *random-fully*) echo "unknown option --random-fully" >&2; exit 2;; esac',
    'echo "$input" | iptables-nft-restore "$@"',
  ]);
  const only4 = trafficRules({ ...INPUT, ipv6: null });
  assert.deepEqual((await h.rules.ensure(only4)).errors, []);
  const save = await h.save();
  assert.equal(count(save, "-j MASQUERADE\n"), 2, save);
  assert.deepEqual(await h.rules.ensure(only4), NOTHING);
  // A later run finds those rules and, after a try, leaves them as they are.
  assert.deepEqual(await h.again().ensure(only4), NOTHING);
  assert.equal(await h.save(), save);
});

Deno.test("an iptables that hangs or fails is an error, and is tried again", async () => {
  await using h = await host("nft");
  const path = `${h.folder}/iptables-restore`;
  const commands = new Commands({
    folders: [h.folder, "/usr/sbin", "/usr/bin", "/bin"],
    prefix: ["ip", "netns", "exec", h.ns.name],
    limitMs: 500,
  });
  const rules = createTrafficRules("iptables", { commands });
  const wanted = trafficRules({ ...INPUT, ipv6: null, randomFully: false });
  await replace(path, ["sleep 5"]);
  assert.deepEqual((await rules.ensure(wanted)).errors, [
    "iptables-restore: status -1: timeout after 500 ms",
  ]);
  await replace(path, ["echo one >&2", "echo two >&2", "exit 4"]);
  assert.deepEqual((await rules.ensure(wanted)).errors, [
    "iptables-restore: status 4: one; two",
  ]);
  await replace(path, ["exit 0"]);
  assert.match((await rules.ensure(wanted)).errors[0], /were written but are missing afterwards/);
  await replace(path, ['exec iptables-nft-restore "$@"']);
  assert.deepEqual((await rules.ensure(wanted)).errors, []);
  assert.match(await h.save(), /FLANNEL-FWD/);
});

/** The source address that `outside` sees when `pod` connects to it. */
async function seenSource(pod: NetNs, outside: NetNs, target: string): Promise<string> {
  const script = `
    const [hostname] = Deno.args;
    const listener = Deno.listen({ hostname, port: 7000 });
    console.log("listening");
    const connection = await listener.accept();
    console.log("from " + connection.remoteAddr.hostname);
  `;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, script);
    await using server = outside.spawn(Deno.execPath(), [
      ...["run", "--no-config", "--allow-net", file, target],
    ]);
    await server.waitForLine(/listening/);
    const client = pod.spawn("bash", ["-c", `exec 3<>/dev/tcp/${target}/7000`]);
    const [, source] = await server.waitForLine(/from (\S+)/, 3000).catch((error) => {
      throw new Error(`nothing came to ${target}: ${error.message} ${client.lines}`);
    });
    return source;
  } finally {
    await Deno.remove(file);
  }
}

for (const kind of ["iptables-nft", "iptables-legacy", "nftables"] as const) {
  Deno.test(`${kind}: packets that leave the overlay have the node's address`, async () => {
    await using h = await host(kind === "iptables-legacy" ? "legacy" : "nft");
    await using pod = await NetNs.create("pod");
    await using outside = await NetNs.create("out");
    await topology(h, pod, outside);
    const rules = kind === "nftables" ? h.nftables() : h.rules;

    // Without masquerading the packet arrives, but its answer finds no way.
    const pinged = async (target: string) =>
      (await pod.exec("ping", "-c1", "-W1", target)).code === 0;
    assert.equal(await pinged("192.0.2.2"), false);
    if (kind !== "nftables") {
      await h.ipt("-P", "FORWARD", "DROP");
      assert.deepEqual(
        (await rules.ensure(trafficRules({ ...INPUT, ipMasq: false }))).errors,
        [],
      );
    }
    assert.equal(await pinged("192.0.2.2"), false);

    assert.deepEqual((await rules.ensure(WANTED)).errors, []);
    // A firewall's last word: the chain's ACCEPT comes before it.
    if (kind !== "nftables") await h.ipt("-A", "FORWARD", "-j", "DROP");
    assert.equal(await seenSource(pod, outside, "192.0.2.2"), "192.0.2.1");
    assert.equal(await seenSource(pod, outside, "2001:db8::2"), "2001:db8::1");
    await pod.run("ping", "-c1", "-W1", "2001:db8::2");

    // A peer's container, here on the outside host with an address of the network, sees the
    // container's own address.
    await outside.run("ip", "address", "add", "10.1.6.2/32", "dev", "lo");
    await h.ns.run("ip", "route", "add", "10.1.6.0/24", "via", "192.0.2.2");
    await outside.run("ip", "route", "add", "10.1.5.0/24", "via", "192.0.2.1");
    assert.equal(await seenSource(pod, outside, "10.1.6.2"), "10.1.5.2");
  });
}
