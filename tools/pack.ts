/**
 * Makes the one binary offline: the launcher with the runtime, the bundle and the library behind it.
 * `deno task pack [ENTRY] [OUTPUT]`.
 *
 * @module
 */
import { PASSED } from "../cli/permissions.ts";
import { bundle } from "./bundle.ts";
import { buildLauncher, buildLibrary } from "./lib.ts";
import { must, ROOT, runTool, ToolError } from "./process.ts";
import { BINARY, DENO_VERSION, RUNTIME_FLAGS, V8_FLAGS } from "./runtime.ts";
import { grantLines, SECRET_FLAGS } from "./grants.ts";

/** zstd's level: 22 takes a fifth longer to pack and saves 1 percent. */
const LEVEL = 19;
const LIMIT = 600;
const WORK = `${ROOT}/dist/work`;

/** What the launcher does with the files: the manifest's lines before those of the files. */
export function manifestHead(): string {
  const lines = [
    ["exec", "flanneld"],
    ["env", "_FLANNELD_LIB", "{path:libdataplane.so}"],
    ["env", "_FLANNELD_LICENCES", "{path:licences.txt}"],
    // Compiled code is kept beside the files, so that the next start need not compile it again.
    ["env", "DENO_DIR", "{dir}/runtime"],
    ["env", "DENO_NO_UPDATE_CHECK", "1"],
    // glibc gives each thread an arena of its own, and each keeps what was freed: 3 MB after a first
    // start, and no call is faster for it.
    ["env", "MALLOC_ARENA_MAX", "2"],
    ...PASSED.map((name) => ["pass", name]),
    // glibc gives each thread an arena of its own, and each keeps what was freed: 3 MB after a first
    // start, and no call is faster for it.
    ["env", "MALLOC_ARENA_MAX", "2"],
    ["arg", "run"],
    ...RUNTIME_FLAGS.map((flag) => ["arg", flag]),
    ["arg", `--v8-flags=${V8_FLAGS.join(",")}`],
    ["arg", "--quiet"],
    ["arg", "--no-check"],
    ["arg", "--no-config"],
    ["arg", "--no-lock"],
    ["arg", "--no-npm"],
    ["arg", "--no-remote"],
    ["arg", "--cached-only"],
    ["arg", "{path:main.js}"],
    ["memarg", "--ext=js"],
    ["memarg", "--no-code-cache"],
    ["memarg", "--import-map={import-map}"],
    ...grantLines(),
    ...SECRET_FLAGS.map((flag) => ["secret", flag]),
  ];
  return lines.map((fields) => `${fields.join("\t")}\n`).join("");
}

/**
 * Builds and packs everything into `output`.
 *
 * @throws {ToolError} where a part cannot be built
 */
export async function pack(entry?: string, output = BINARY): Promise<void> {
  if (Deno.version.deno !== DENO_VERSION) {
    throw new ToolError(`this is Deno ${Deno.version.deno}; the binary is made of ${DENO_VERSION}`);
  }
  const library = await buildLibrary();
  const tools = await buildLauncher();
  const folder = await bundle(entry);
  await packFiles(
    tools,
    {
      flanneld: Deno.execPath(),
      "libdataplane.so": library,
      ...modulesOf(folder),
    },
    manifestHead(),
    output,
  );
}

/**
 * Packs files by their names in the binary.
 *
 * @param kept folder with frames of earlier packings, which are taken where the content is the same
 * @throws {ToolError} where packing fails
 */
export async function packFiles(
  tools: { launcher: string; pack: string },
  files: Record<string, string>,
  head: string,
  output: string,
  kept = `${WORK}/compressed`,
): Promise<void> {
  await Deno.mkdir(WORK, { recursive: true });
  const headFile = await Deno.makeTempFile({ dir: WORK });
  try {
    await Deno.writeTextFile(headFile, head);
    await must("packing", tools.pack, [
      output,
      tools.launcher,
      headFile,
      String(LEVEL),
      kept,
      ...Object.entries(files).map(([name, path]) => `${name}=${path}`),
    ], { limit: LIMIT });
  } finally {
    await Deno.remove(headFile);
  }
}

function modulesOf(folder: string): Record<string, string> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return Object.fromEntries(names.map((name) => [name, `${folder}/${name}`]));
}

if (import.meta.main) {
  await runTool("pack", async () => {
    const [entry, output = BINARY] = Deno.args;
    await pack(entry, output);
    const { size } = await Deno.stat(output);
    console.log(`pack: ${output}, ${(size / 1e6).toFixed(1)} MB`);
  });
}
