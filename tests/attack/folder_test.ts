/**
 * Another local user tries to have root run files of theirs, by way of the folder that the built
 * binary unpacks into. Root makes and opens files only where nobody else can change the way there.
 */
import assert from "node:assert/strict";
import { BINARY } from "../../tools/runtime.ts";
import { exec, type Output, requireRoot, run, spawn } from "../../testbed/netns.ts";

/** The attacker: nobody. */
const ATTACKER = 65534;
const AS_ATTACKER = [`--reuid=${ATTACKER}`, `--regid=${ATTACKER}`, "--clear-groups"];

const PROGRAM = Deno.env.get("FLANNELD_BIN") || BINARY;

/** Places on a host. */
interface Site extends AsyncDisposable {
  /** Like `/tmp`. */
  sticky: string;
  /** The attacker's, in it. */
  attackers: string;
  /** Root's alone. */
  roots: string;
}

async function site(): Promise<Site> {
  requireRoot();
  const top = await Deno.makeTempDir({ prefix: "flanneld-attack-" });
  await Deno.chmod(top, 0o755);
  const [sticky, roots] = [`${top}/sticky`, `${top}/roots`];
  await Deno.mkdir(sticky);
  await Deno.chmod(sticky, 0o1777);
  await Deno.mkdir(roots, { mode: 0o755 });
  const attackers = `${sticky}/attackers`;
  await Deno.mkdir(attackers);
  await Deno.chown(attackers, ATTACKER, ATTACKER);
  return {
    sticky,
    attackers,
    roots,
    [Symbol.asyncDispose]: () => Deno.remove(top, { recursive: true }),
  };
}

async function start(env: Record<string, string>, ...before: string[]): Promise<Output> {
  const names = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const output = await exec("env", ["-i", ...names, ...before, PROGRAM, "--version"]);
  assert.equal(output.code, 0, output.stderr);
  return output;
}

/** With a `/var/cache` that does not serve, so that HOME is the first folder that serves. */
const HOME_FIRST = [
  "unshare",
  "--mount",
  "sh",
  "-c",
  'mount -t tmpfs -o noexec none /var/cache && exec "$@"',
  "sh",
];

async function refused(path: string, reason: RegExp): Promise<void> {
  const { stderr } = await start({ FLANNELD_CACHE_DIR: path });
  assert.match(stderr, /^flanneld: FLANNELD_CACHE_DIR is not used: /, path);
  assert.match(stderr, reason);
}

function content(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name);
}

/** A link as the attacker makes it. */
async function attackersLink(target: string, path: string): Promise<void> {
  await run("setpriv", [...AS_ATTACKER, "ln", "-s", target, path]);
}

Deno.test("attack: the cache folder by way of a link that someone else owns", async () => {
  await using at = await site();
  await attackersLink(at.roots, `${at.sticky}/link`);
  await refused(`${at.sticky}/link/x`, /link belongs to user 65534/);
  // One of root's that leads over it, and one that the attacker could not have made.
  await Deno.symlink(`${at.sticky}/link`, `${at.roots}/over`);
  await refused(`${at.roots}/over/x`, /link belongs to user 65534/);
  assert.deepEqual(content(at.roots), ["over"]);
  await Deno.symlink("../roots", `${at.sticky}/roots-own`);
  const { stderr } = await start({ FLANNELD_CACHE_DIR: `${at.sticky}/roots-own/x` });
  assert.equal(stderr, "");
  assert.match(content(`${at.roots}/x`).join(), /^[0-9a-f]{32}$/);
});

Deno.test("attack: a home folder whose .cache is someone else's link", async () => {
  await using at = await site();
  const home = `${at.roots}/home`;
  await Deno.mkdir(home);
  await Deno.symlink(at.roots, `${home}/.cache`);
  await start({ HOME: home }, ...HOME_FIRST);
  assert.deepEqual(content(at.roots).sort(), ["flanneld", "home"]);
  await Deno.remove(`${at.roots}/flanneld`, { recursive: true });
  await run("chown", ["-h", String(ATTACKER), `${home}/.cache`]);
  await start({ HOME: home }, ...HOME_FIRST);
  assert.deepEqual(content(at.roots), ["home"]);
  // The home folder itself is the attacker's, as with `sudo -E`.
  await start({ HOME: at.attackers }, ...HOME_FIRST);
  await Deno.mkdir(`${at.attackers}/.cache`);
  await start({ HOME: at.attackers }, ...HOME_FIRST);
  assert.deepEqual(content(`${at.attackers}/.cache`), []);
});

Deno.test("attack: folders on the way that others can write to, or that are others'", async () => {
  await using at = await site();
  await refused(`${at.attackers}/x`, /attackers belongs to user 65534/);
  for (const mode of [0o775, 0o757, 0o777]) {
    const open = `${at.roots}/${mode.toString(8)}`;
    await Deno.mkdir(`${open}/below`, { recursive: true });
    await Deno.chmod(open, mode);
    await refused(`${open}/below/x`, /lets other users replace what is below it/);
    await refused(`${open}/x`, /lets other users replace what is below it/);
    await refused(open, /other users can write to/);
    assert.deepEqual(content(`${open}/below`), []);
  }
  // A list that lets one more user write shows in the group's bits.
  const listed = `${at.roots}/listed`;
  await Deno.mkdir(listed, { mode: 0o755 });
  await run("python3", ["-c", ACL, listed]);
  await refused(`${listed}/x`, /lets other users replace what is below it/);
});

/** Gives the user nobody write access by an access control list. */
const ACL = `
import os, struct, sys
entry = lambda tag, bits, who=0xffffffff: struct.pack("<HHI", tag, bits, who)
entries = entry(1, 7) + entry(2, 7, ${ATTACKER}) + entry(4, 5) + entry(16, 7) + entry(32, 5)
os.setxattr(sys.argv[1], "system.posix_acl_access", struct.pack("<I", 2) + entries)
`;

Deno.test("attack: a link that leads elsewhere from one moment to the next", async () => {
  await using at = await site();
  const link = `${at.sticky}/link`;
  await attackersLink(at.roots, link);
  const flip = (to: string) => `ln -sfn ${to} ${link}.new; mv -T ${link}.new ${link}`;
  const script = `while :; do ${flip(at.attackers)}; ${flip(at.roots)}; done`;
  await using _attacker = spawn("setpriv", [...AS_ATTACKER, "sh", "-c", script]);
  for (let n = 0; n < 25; n++) await start({ FLANNELD_CACHE_DIR: `${link}/x` });
  assert.deepEqual(content(at.attackers), []);
  assert.deepEqual(content(at.roots), []);
});

Deno.test("attack: files put into the cache under second names", async () => {
  await using at = await site();
  const cache = `${at.roots}/cache`;
  await start({ FLANNELD_CACHE_DIR: cache });
  const [id] = content(cache);
  const library = `${cache}/${id}/libdataplane.so`;
  // What a second name leads to can be changed by it, once the library has been verified.
  await Deno.link(library, `${at.sticky}/second`);
  await start({ FLANNELD_CACHE_DIR: cache });
  const [kept, second] = [Deno.statSync(library), Deno.statSync(`${at.sticky}/second`)];
  assert.equal(kept.nlink, 1);
  assert.notEqual(kept.ino, second.ino);
  // The attacker's own file in its place.
  await Deno.remove(library);
  await Deno.copyFile(`${at.sticky}/second`, library);
  await Deno.chown(library, ATTACKER, ATTACKER);
  await start({ FLANNELD_CACHE_DIR: cache });
  assert.equal(Deno.statSync(library).uid, 0);
});
