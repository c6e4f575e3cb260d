/**
 * Shows that a build depends on nothing but the sources: packs two clean copies of this checkout, in
 * folders of different names and with nothing built before, and compares the binaries:
 * `deno task reproduce`. `--bundle` compares the program's modules alone, in a few seconds.
 *
 * @module
 */
import { dirname } from "node:path";
import { must, ROOT, run, runTool, ToolError } from "./process.ts";

/** Seconds for one copy. */
const LIMIT = 1800;

/** What a copy made: hashes by the name of the file. */
type Hashes = Record<string, string>;

/**
 * Builds twice and compares.
 *
 * @param bundleOnly only the modules, without cargo and packing
 * @returns the hashes, the same for both
 * @throws {ToolError} naming the files that differ
 */
export async function reproduce(bundleOnly: boolean): Promise<Hashes> {
  const folder = await Deno.makeTempDir({ prefix: "flanneld-reproduce-" });
  try {
    const files = await trackedFiles();
    const copies = [`${folder}/one`, `${folder}/the-other/one`];
    for (const copy of copies) await copyFiles(files, copy);
    const [one, other] = [
      await build(copies[0], bundleOnly),
      await build(copies[1], bundleOnly),
    ];
    const names = [...new Set([...Object.keys(one), ...Object.keys(other)])];
    const differing = names.filter((name) => one[name] !== other[name]);
    if (differing.length > 0) throw new ToolError(`two builds differ in ${differing.join(", ")}`);
    return one;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Names of the files that are in git, as they are in this checkout. */
async function trackedFiles(): Promise<string[]> {
  let listed = "";
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const result = await run("git", args, {
    limit: 60,
    quiet: true,
    onOutput: (text) => listed += text,
  });
  if (result.code !== 0) throw new ToolError(`git ls-files: ${result.tail.trim()}`);
  return listed.split("\0").filter((name) => name !== "");
}

async function copyFiles(names: string[], to: string): Promise<void> {
  for (const name of names) {
    await Deno.mkdir(dirname(`${to}/${name}`), { recursive: true });
    // One that was deleted and not yet committed is no part of the checkout.
    await Deno.copyFile(`${ROOT}/${name}`, `${to}/${name}`).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}

async function build(copy: string, bundleOnly: boolean): Promise<Hashes> {
  const deno = Deno.execPath();
  // Nothing is taken from a folder that the two would share.
  const env = { CARGO_TARGET_DIR: `${copy}/dataplane-rs/target` };
  const options = { limit: LIMIT, cwd: copy, quiet: true, env };
  await must("installing the npm packages", deno, ["install", "--frozen", "--quiet"], options);
  const tool = `tools/${bundleOnly ? "bundle" : "pack"}.ts`;
  await must(`building in ${copy}`, deno, ["run", "--allow-all", tool], options);
  const bundle = `${copy}/dist/work/bundle`;
  const modules = [...Deno.readDirSync(bundle)].map(({ name }) => `${bundle}/${name}`).sort();
  const release = `${copy}/dataplane-rs/target/release`;
  const built = [`${copy}/dist/flanneld`, `${release}/libdataplane.so`, `${release}/launcher`];
  const hashes: Hashes = {};
  for (const path of bundleOnly ? modules : [...built, ...modules]) {
    hashes[path.slice(path.lastIndexOf("/") + 1)] = await sha256(path);
  }
  return hashes;
}

async function sha256(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(digest).toHex();
}

if (import.meta.main) {
  await runTool("reproduce", async () => {
    const bundleOnly = Deno.args.includes("--bundle");
    const hashes = await reproduce(bundleOnly);
    for (const [name, hash] of Object.entries(hashes)) {
      if (!bundleOnly && name.endsWith(".js")) continue;
      console.log(`${hash}  ${name}`);
    }
    console.log(`reproduce: ${Object.keys(hashes).length} files, the same twice`);
  });
}
