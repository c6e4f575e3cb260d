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
import { checkBundle } from "./bundle_check.ts";
import { licenceTexts } from "./licences.ts";
import { must, ROOT, runTool, ToolError } from "./process.ts";
import { BUNDLE } from "./runtime.ts";

const LIMIT = 180;

/**
 * Which of a package's forms is bundled: the one for bundlers, of ES modules, where it has one. The
 * other, CommonJS, hides its exports behind a `default` where it is imported dynamically, so that
 * what the SDK loads when needed would not be found; and none of it could be left out.
 */
const CONDITIONS = { DENO_CONDITIONS: "module" };

/**
 * How etcd3 reads its interface description: as it loads, from a file beside its source, which a
 * bundle does not have.
 */
const PROTO_LOAD = /\(0,\s*([\w$]+)\.loadSync\)\(\s*`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`,/g;

/** The services of etcd that `subnet/etcd/client.ts` calls, and of which only some calls, which. */
const SERVICES: Record<string, string[] | undefined> = {
  KV: undefined,
  Lease: undefined,
  Watch: undefined,
  Auth: ["Authenticate"],
};

/**
 * The chunk with the bundler's helpers for CommonJS modules, by what it imports itself. It loads the
 * runtime's whole support for Node.
 */
const COMMONJS_HELPERS = /import\s*\{[^}]*createRequire[^}]*\}\s*from\s*"node:module"/;

/** protobufjs's JSON form of an interface, by package. */
interface Description {
  nested: Record<string, Declarations>;
}

/** Messages, enumerations and services of a package. */
interface Declarations {
  nested: Record<string, Declaration>;
}

interface Declaration {
  fields?: Record<string, { type: string }>;
  methods?: Record<string, { requestType: string; responseType: string }>;
}

/** The parts of protobufjs that are used here. */
interface ProtobufRoot {
  loadSync(path: string, options: { keepCase: boolean }): ProtobufRoot;
  toJSON(): unknown;
}

/**
 * Bundles `entry` into {@link BUNDLE} (or `folder`), as `main.js` and the modules that it imports.
 *
 * @throws {ToolError} where bundling fails, etcd3 is not as expected, or the bundle does not hold
 *   what its modules import
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
  ], { limit: LIMIT, quiet: true, env: CONDITIONS });
  await inlineProto(folder);
  await dropUnusedHelpers(folder);
  await checkBundle(folder);
  await Deno.writeTextFile(`${folder}/licences.txt`, await licenceTexts());
  return folder;
}

/**
 * Removes the imports of the CommonJS helpers from the modules that use none: the bundler has every
 * module import them, which costs a call as CNI plugin more than all the rest of its modules.
 *
 * @throws {ToolError} where there are no such helpers
 */
async function dropUnusedHelpers(folder: string): Promise<void> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  const modules = names.filter((name) => name.endsWith(".js"));
  const sources = new Map<string, string>();
  for (const name of modules) sources.set(name, await Deno.readTextFile(`${folder}/${name}`));
  const helpers = modules.filter((name) =>
    name.startsWith("chunk-") && COMMONJS_HELPERS.test(sources.get(name)!)
  );
  if (helpers.length !== 1) {
    throw new ToolError(
      `bundling: ${helpers.length} chunks have the CommonJS helpers, not 1: ` +
        "see COMMONJS_HELPERS in tools/bundle.ts",
    );
  }
  const unused = `import"./${helpers[0]}";`;
  for (const [name, source] of sources) {
    if (!source.includes(unused)) continue;
    await Deno.writeTextFile(`${folder}/${name}`, source.replaceAll(unused, ""));
  }
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
function etcdDescription(): Description {
  const etcd3 = createRequire(import.meta.url).resolve("etcd3");
  const loader = createRequire(etcd3).resolve("@grpc/proto-loader");
  const { Root } = createRequire(loader)("protobufjs") as { Root: new () => ProtobufRoot };
  const proto = new URL("../proto/rpc.proto", `file://${etcd3}`).pathname;
  return pruned(new Root().loadSync(proto, { keepCase: true }).toJSON() as Description);
}

/**
 * Keeps {@link SERVICES} and the messages that they are made of: the client compiles all that it is
 * given at every start, and most of etcd's interface serves its administration.
 */
function pruned({ nested: packages }: Description): Description {
  const kept: Record<string, Declarations> = {};
  const keep = (type: string): void => {
    // No two packages declare the same name; scalars are declared by none.
    const name = type.split(".").at(-1)!;
    for (const [pack, { nested }] of Object.entries(packages)) {
      const found = nested[name];
      if (!found || kept[pack]?.nested[name]) continue;
      (kept[pack] ??= { nested: {} }).nested[name] = found;
      for (const field of Object.values(found.fields ?? {})) keep(field.type);
    }
  };
  for (const [service, wanted] of Object.entries(SERVICES)) {
    const { methods: all = {} } = packages.etcdserverpb.nested[service];
    const methods = Object.fromEntries(
      Object.entries(all).filter(([name]) => wanted?.includes(name) ?? true),
    );
    keep(service);
    kept.etcdserverpb.nested[service] = { methods };
    for (const { requestType, responseType } of Object.values(methods)) {
      keep(requestType);
      keep(responseType);
    }
  }
  return { nested: kept };
}

if (import.meta.main) {
  await runTool("bundle", async () => {
    const folder = await bundle(Deno.args[0]);
    console.log(`bundle: ${folder}/main.js`);
  });
}
