/**
 * The licences of what goes into the binary: `deno task licences` writes the list,
 * `docs/licences.md`; `--check` says whether it is that of the lock files. The texts themselves go
 * into the binary, where `flanneld licences` prints them.
 *
 * @module
 */
import { must, ROOT, runTool, ToolError } from "./process.ts";
import { DENO_VERSION } from "./runtime.ts";

const LIST = `${ROOT}/docs/licences.md`;
const LIMIT = 120;
/** Types alone: nothing of them is in the binary. */
const TYPES_ONLY = /^(@types\/|undici-types@)/;
const TEXT_FILE = /^(licen[cs]e|copying|copyright|notice)/i;

/** A package in the binary. */
interface Component {
  name: string;
  version: string;
  /** SPDX expression. */
  licence: string;
  kind: "npm" | "cargo";
  folder: string;
}

/**
 * All components, by kind and name.
 *
 * @throws {ToolError} where one is not installed or names no licence
 */
async function components(): Promise<Component[]> {
  return [...npmComponents(), ...await cargoComponents()];
}

function npmComponents(): Component[] {
  const lock = JSON.parse(Deno.readTextFileSync(`${ROOT}/deno.lock`)) as {
    npm: Record<string, unknown>;
  };
  // A name may have the versions of its peers behind an underscore.
  const ids = Object.keys(lock.npm).map((id) => id.replace(/(?<=.@[^_]*)_.*/, ""));
  return [...new Set(ids)].filter((id) => !TYPES_ONLY.test(id)).sort().map((id) => {
    const at = id.lastIndexOf("@");
    const [name, version] = [id.slice(0, at), id.slice(at + 1)];
    const store = `${ROOT}/node_modules/.deno/${id.replace("/", "+")}`;
    const folder = `${store}/node_modules/${name}`;
    let licence: unknown;
    try {
      ({ license: licence } = JSON.parse(Deno.readTextFileSync(`${folder}/package.json`)));
    } catch (error) {
      throw new ToolError(`${id} is not installed: deno install --frozen: ${error}`);
    }
    return { name, version, licence: named(id, licence), kind: "npm", folder };
  });
}

async function cargoComponents(): Promise<Component[]> {
  const tree = await cargo("tree", [
    ...["--package", "dataplane", "--package", "launcher", "--edges", "normal"],
    ...["--target", "x86_64-unknown-linux-gnu", "--prefix", "none", "--format", "{p}"],
  ]);
  const { packages } = JSON.parse(await cargo("metadata", ["--format-version", "1"])) as {
    packages: {
      name: string;
      version: string;
      license: string | null;
      manifest_path: string;
      source: string | null;
    }[];
  };
  const used = new Set(tree.split("\n").map((line) => line.split(" ").slice(0, 2).join(" ")));
  return packages
    .filter(({ name, version, source }) => source !== null && used.has(`${name} v${version}`))
    .map(({ name, version, license, manifest_path: manifest }) => ({
      name,
      version,
      licence: named(name, license),
      kind: "cargo" as const,
      folder: manifest.replace(/\/[^/]*$/, ""),
    }))
    .sort((a, b) => `${a.name} ${a.version}` < `${b.name} ${b.version}` ? -1 : 1);
}

async function cargo(command: string, args: string[]): Promise<string> {
  let output = "";
  await must(`cargo ${command}`, "cargo", [command, "--locked", "--quiet", ...args], {
    limit: LIMIT,
    cwd: `${ROOT}/dataplane-rs`,
    quiet: true,
    onOutput: (text) => output += text,
  });
  return output;
}

function named(name: string, licence: unknown): string {
  if (typeof licence !== "string" || licence === "") {
    throw new ToolError(`${name} names no licence`);
  }
  // The form of old manifests.
  return licence.replaceAll("/", " OR ");
}

/** The list as Markdown. */
function list(all: Component[]): string {
  const rows = [
    ["package", "version", "licence", "from"],
    ["deno", DENO_VERSION, "MIT, with V8 (BSD-3-Clause) and others", "its release"],
    ...all.map(({ name, version, licence, kind }) => [name, version, licence, kind]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |\n`;
  const rule = line(widths.map((width) => "-".repeat(width)));
  return "# Licences of what is in the binary\n\n" +
    "Made by `deno task licences` from the lock files; `flanneld licences` prints the texts.\n\n" +
    line(rows[0]) + rule + rows.slice(1).map(line).join("");
}

/**
 * The licences' texts, each once with the packages that it is of.
 *
 * @throws {ToolError} as {@linkcode components}
 */
export async function licenceTexts(): Promise<string> {
  const owners = new Map<string, string[]>();
  const add = (text: string, owner: string) => owners.set(text, [...owners.get(text) ?? [], owner]);
  for (const { name, version, licence, folder } of await components()) {
    const owner = `${name} ${version} (${licence})`;
    const files = [...Deno.readDirSync(folder)].filter(({ name, isFile }) =>
      isFile && TEXT_FILE.test(name)
    ).map(({ name }) => name).sort();
    for (const file of files) add(Deno.readTextFileSync(`${folder}/${file}`).trim(), owner);
    if (files.length === 0) add(`Its package has no file with the licence's text.`, owner);
  }
  return [...owners].map(([text, names]) => `${names.join("\n")}\n\n${text}\n`)
    .join(`\n${"-".repeat(80)}\n\n`);
}

/**
 * Compares the list with the lock files.
 *
 * @throws {ToolError} where it is another
 */
export async function checkLicences(): Promise<void> {
  const wanted = list(await components());
  const found = await Deno.readTextFile(LIST).catch(() => "");
  if (found !== wanted) throw new ToolError("docs/licences.md is out of date: deno task licences");
}

if (import.meta.main) {
  await runTool("licences", async () => {
    if (Deno.args.includes("--check")) return await checkLicences();
    await Deno.writeTextFile(LIST, list(await components()));
    console.log(`licences: ${LIST}`);
  });
}
