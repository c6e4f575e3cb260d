/**
 * Bundles the program and its packages into a few modules that need no `node_modules`:
 * `deno task bundle [ENTRY]`.
 *
 * Sub-commands and backends are imported dynamically and become modules of their own, so that a
 * start reads only what it needs.
 *
 * @module
 */
import { createRequire } from "node:module";
import { must, ROOT, runTool, ToolError } from "./process.ts";
import { BUNDLE } from "./runtime.ts";

const LIMIT = 180;

/**
 * How etcd3 reads its interface description: as it loads, from a file beside its source, which a
 * bundle does not have.
 */
const PROTO_LOAD = /\(0,\s*([\w$]+)\.loadSync\)\(\s*`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`,/g;

/** The parts of protobufjs that are used here. */
interface ProtobufRoot {
  loadSync(path: string, options: { keepCase: boolean }): ProtobufRoot;
  toJSON(): unknown;
}

/**
 * Bundles `entry` into {@link BUNDLE} (or `folder`), as `main.js` and the modules that it imports.
 *
 * @throws {ToolError} where bundling fails or etcd3 is not as expected
 */
export async function bundle(entry = `${ROOT}/cli/main.ts`, folder = BUNDLE): Promise<string> {
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  await must("bundling", Deno.execPath(), [
    "bundle",
    "--quiet",
    "--platform=deno",
    "--code-splitting",
    "--minify",
    `--outdir=${folder}`,
    entry,
  ], { limit: LIMIT, quiet: true });
  await inlineProto(folder);
  return folder;
}

/**
 * Puts etcd3's interface description into the bundle, already parsed, where it would read the file:
 * parsed text costs less at every start than text, and there is no file to be found.
 */
async function inlineProto(folder: string): Promise<void> {
  const description = JSON.stringify(etcdDescription());
  let places = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".js")) continue;
    const path = `${folder}/${name}`;
    const source = await Deno.readTextFile(path);
    const inlined = source.replaceAll(PROTO_LOAD, (_match, loader: string) => {
      places++;
      return `(0,${loader}.fromJSON)(${description},`;
    });
    if (inlined !== source) await Deno.writeTextFile(path, inlined);
  }
  if (places !== 1) {
    throw new ToolError(
      `bundling: etcd3 reads rpc.proto in ${places} places of the bundle, not in 1: ` +
        "see PROTO_LOAD in tools/bundle.ts",
    );
  }
}

/** etcd's gRPC interface as JSON, by the same protobufjs that etcd3 would parse it with. */
function etcdDescription(): unknown {
  const etcd3 = createRequire(import.meta.url).resolve("etcd3");
  const loader = createRequire(etcd3).resolve("@grpc/proto-loader");
  const { Root } = createRequire(loader)("protobufjs") as { Root: new () => ProtobufRoot };
  const proto = new URL("../proto/rpc.proto", `file://${etcd3}`).pathname;
  return new Root().loadSync(proto, { keepCase: true }).toJSON();
}

if (import.meta.main) {
  await runTool("bundle", async () => {
    const folder = await bundle(Deno.args[0]);
    console.log(`bundle: ${folder}/main.js`);
  });
}
