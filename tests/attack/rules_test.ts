/**
 * Rules of others whose comments, device names and chain names look like ours, in real packet
 * filters: none is taken for ours, hides ours, or is changed.
 *
 * `ATTACK_SEED` repeats a run.
 */
import assert from "node:assert/strict";
import { chainName, removalOf } from "../../cni/masquerade.ts";
import { optionsOf } from "../../traffic/save_text.ts";
import { parseSave } from "../../traffic/save.ts";
import { filterHost } from "../../testbed/filter_host.ts";
import { ensured, node, WANTED } from "../../testbed/overlay_node.ts";
import { run } from "../../testbed/netns.ts";

const SEED = Number(Deno.env.get("ATTACK_SEED") ?? Math.floor(Math.random() * 2 ** 32));

/** Numbers below `n`, the same for the same seed. */
function random(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
}

/** Pieces of comments, names and rules. */
const PIECES = [
  ...["\n", '"', "\\", "'", " ", "\\\\", '\\"', "\t", "\r", "!", "x", "ü", "\u{7f}"],
  ...["-A FLANNEL-FWD -j DROP", "-A FORWARD -j DROP", ":FORWARD DROP [0:0]", "-j FLANNEL-FWD"],
  ...["*filter", "*nat", "COMMIT", ":FLANNEL-FWD - [0:0]", "#", "-i", "--comment", "--match-set"],
];

function text(next: (n: number) => number, bytes: number): string {
  let made = "";
  for (let n = 1 + next(8); n > 0; n--) made += PIECES[next(PIECES.length)];
  const encoded = new TextEncoder().encode(made).slice(0, bytes);
  return new TextDecoder().decode(encoded).replaceAll("\ufffd", "");
}

const commentOf = (rule: string) => optionsOf(rule).find(({ name }) => name === "--comment");

for (const variant of ["nft", "legacy"] as const) {
  Deno.test(`attack: random comments in iptables-${variant} are read as they were written`, async () => {
    console.log(`ATTACK_SEED=${SEED}`);
    const next = random(SEED);
    await using h = await filterHost(variant);
    const comments = Array.from({ length: 80 }, () => text(next, 255));
    for (const comment of comments) {
      await h.ipt("-A", "FORWARD", "-m", "comment", "--comment", comment, "-j", "ACCEPT");
    }
    const { filter } = parseSave(await h.ns.run(`${h.folder}/iptables-save`));
    const rules = filter.chains.get("FORWARD") ?? [];
    assert.deepEqual(rules.map((rule) => commentOf(rule)?.values[0]), comments);
    for (const rule of rules) {
      assert.deepEqual(optionsOf(rule).map(({ name }) => name), ["-m", "--comment", "-j"]);
    }
    assert.deepEqual([filter.policy, filter.rules, filter.jumps], ["ACCEPT", undefined, []]);
  });

  Deno.test(`attack: rules in iptables-${variant} that look like ours`, async () => {
    await using h = await node(variant, { policy: "keep" });
    const folder = h.folder;
    const comment = (value: string) => ["-m", "comment", "--comment", value];
    const foreign = [
      [...comment("x\n-A FLANNEL-FWD -j DROP"), "-j", "ACCEPT"],
      [...comment('q"\n-A FLANNEL-FWD -j DROP\n"'), "-j", "ACCEPT"],
      [...comment("a -j FLANNEL-FWD -A FLANNEL-FWD"), "-j", "ACCEPT"],
      [...comment("\\\n-A FORWARD -j FLANNEL-FWD\\"), "-j", "ACCEPT"],
      ["-i", 'a"b', "-j", "ACCEPT"],
      ["-i", '"b', "-j", "ACCEPT"],
      ["-o", "\n:FORWARD DROP", "-j", "ACCEPT"],
      ["-i", "\n-A FLANNEL-FWD", "-j", "ACCEPT"],
      ["-j", 'c"d'],
      ["-j", '"e'],
    ];
    for (const tool of ["iptables", "ip6tables"]) {
      const table = (...args: string[]) => h.ns.run(`${folder}/${tool}`, "-w", ...args);
      for (const name of ['c"d', '"e']) await table("-N", name);
      for (const rule of foreign) await table("-A", "FORWARD", ...rule);
    }
    const before = [await h.save(), await h.save("ip6tables")];
    await ensured(h.rules);
    // All is in place and seen to be.
    assert.deepEqual(await h.rules.ensure(WANTED), { changed: [], errors: [] });
    assert.deepEqual(await h.again().ensure(WANTED), { changed: [], errors: [] });
    assert.equal(h.rules.problem(), undefined);
    // Whoever jumps to our chain by a rule that iptables-restore cannot read is no hindrance.
    const jump = [...comment('two\nlines"'), "-j", "FLANNEL-FWD"];
    await h.ipt("-I", "FORWARD", "2", ...jump);
    await h.ipt("-A", "FORWARD", "-i", '"z', "-j", "FLANNEL-FWD");
    await ensured(h.rules);
    assert.deepEqual(await h.rules.ensure(WANTED), { changed: [], errors: [] });
    await h.ipt("-I", "FORWARD", "1", ...jump);
    await h.again().remove();
    assert.deepEqual([await h.save(), await h.save("ip6tables")], before);
  });

  Deno.test(`attack: a rule in iptables-${variant} that looks like a container's is left`, async () => {
    await using h = await filterHost(variant);
    const chain = await chainName("net", "id");
    const foreign = ["-m", "comment", "--comment", `x -j ${chain}`, "-j", "ACCEPT"];
    await h.ipt("-t", "nat", "-N", chain);
    await h.ipt("-t", "nat", "-A", "POSTROUTING", ...foreign);
    await h.ipt("-t", "nat", "-A", "POSTROUTING", "-s", "10.1.0.2", "-j", chain);
    const listed = await h.ns.run(`${h.folder}/iptables`, "-t", "nat", "-S");
    const removal = removalOf(chain, listed)!;
    await run("sh", [
      "-c",
      `printf %s "$1" | ip netns exec ${h.ns.name} ${h.folder}/iptables-restore --noflush`,
      "sh",
      removal,
    ]);
    const left = await h.ns.run(`${h.folder}/iptables`, "-t", "nat", "-S", "POSTROUTING");
    assert.match(left, new RegExp(`^-A POSTROUTING .*x -j ${chain}" -j ACCEPT$`, "m"));
    assert.doesNotMatch(left, /10\.1\.0\.2/);
  });
}

Deno.test("attack: random comments in nftables' own tables are left alone", async () => {
  console.log(`ATTACK_SEED=${SEED}`);
  const next = random(SEED);
  await using h = await node("nft", { policy: "keep" });
  // Within quotes nft takes all but a quotation mark; 128 bytes.
  const comments = Array.from({ length: 40 }, () => text(next, 120).replaceAll('"', ""));
  const rules = comments.map((comment) => `  accept comment "${comment}"\n`).join("");
  const table =
    `table inet other {\n chain forward {\n type filter hook forward priority 5;\n${rules}` +
    ` }\n}\n`;
  const file = `${h.folder}/other.nft`;
  await Deno.writeTextFile(file, table);
  await h.ns.run("nft", "-f", file);
  // Bytes that are no text.
  const bytes = [...'add rule inet other forward accept comment "'].map((c) => c.charCodeAt(0));
  await Deno.writeFile(file, new Uint8Array([...bytes, 0xff, 0xfe, 0xc3, 0x22, 0x0a]));
  await h.ns.run("nft", "-f", file);
  const other = () => h.ns.run("nft", "list", "table", "inet", "other");
  const before = await other();
  const filter = h.nftables();
  await ensured(filter);
  assert.deepEqual(await filter.ensure(WANTED), { changed: [], errors: [] });
  assert.equal(await h.passing(), "1111");
  assert.equal(filter.problem(), undefined);
  await h.again().remove();
  assert.equal(await other(), before);
  assert.doesNotMatch(await h.ns.run("nft", "list", "tables"), /flannel/);
});
