/**
 * Checks a bundle: that each of its modules loads, and exports what the others import from it.
 *
 * The runtime finds a static import of something that is not there as it links the modules. What an
 * `import()` is asked for comes to light only when that call is made, which in a program whose
 * backends and credentials are loaded when needed may be on somebody's machine.
 *
 * @module
 */
import { pathToFileURL } from "node:url";
import { ToolError } from "./process.ts";

/** What a module takes from another by `import()`. */
export interface DynamicImport {
  /** The other's file. */
  from: string;
  /** Empty where it is kept whole, so that only its later use would tell. */
  names: string[];
}

const IMPORT = /import\("\.\/([^"]+)"\)/g;

/** `[{a:b},{c}]=await Promise.all([import("./x.js"),import("./y.js")])` */
const ALL = /\[((?:\{[^{}]*\},?)+)\]=await Promise\.all\(\[((?:import\("\.\/[^"]+"\),?)+)\]\)/g;

/** `{a:b,c}=await import("./x.js")`, by what is before the import. */
const DESTRUCTURED = /\{([^{}]*)\}=await $/;

/** `(await import("./x.js")).a`, by what is before and after. */
const AWAITED = /\(await $/;
const PROPERTY = /^\)\.([\w$]+)/;

/** `import("./x.js").then(({a:b})=>…)` */
const THEN_DESTRUCTURED = /^\.then\((?:async)?\(\{([^{}]*)\}\)=>/;

/** `import("./x.js").then(m=>m.a…)` */
const THEN_PROPERTY = /^\.then\((?:async ?)?\(?([\w$]+)\)?=>\(*(?:await |new )?\1\.([\w$]+)/;

/**
 * Loads all modules of the bundle in `folder`.
 *
 * @returns how many names are imported dynamically
 * @throws {ToolError} naming a module that does not load, or the names that are not exported
 */
export async function checkBundle(folder: string): Promise<number> {
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.endsWith(".js")).sort();
  const exported = new Map<string, ReadonlySet<string>>();
  for (const file of files) exported.set(file, await exportsOf(`${folder}/${file}`));
  const problems: string[] = [];
  let count = 0;
  for (const file of files) {
    for (const { from, names } of dynamicImports(await Deno.readTextFile(`${folder}/${file}`))) {
      const problem = problemOf(exported.get(from), names);
      if (problem) problems.push(`${file} imports ${from}, which ${problem}`);
      count += names.length;
    }
  }
  if (problems.length > 0) throw new ToolError(`bundling: ${problems.join("; ")}`);
  return count;
}

async function exportsOf(path: string): Promise<ReadonlySet<string>> {
  try {
    return new Set(Object.keys(await import(pathToFileURL(path).href)));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ToolError(`bundling: ${path} cannot be loaded: ${reason}`);
  }
}

function problemOf(exported: ReadonlySet<string> | undefined, names: string[]): string | undefined {
  if (exported === undefined) return "is not there";
  const missing = names.filter((name) => !exported.has(name));
  if (missing.length > 0) return `does not export ${missing.join(", ")}`;
  // A CommonJS module, whose names the bundler keeps behind `default`; nothing of ours is like that.
  const hidden = names.length === 0 && exported.size === 1 && exported.has("default");
  return hidden ? "exports only a default" : undefined;
}

/** What a module of the bundle, minified code, imports dynamically from the bundle. */
export function dynamicImports(source: string): DynamicImport[] {
  const found: DynamicImport[] = [];
  const rest = source.replaceAll(ALL, (_all, patterns: string, imports: string) => {
    const lists = [...patterns.matchAll(/\{([^{}]*)\}/g)].map(([, pattern]) => keysOf(pattern));
    for (const [index, [, from]] of [...imports.matchAll(IMPORT)].entries()) {
      found.push({ from, names: lists[index] ?? [] });
    }
    return "";
  });
  for (const match of rest.matchAll(IMPORT)) {
    const before = rest.slice(0, match.index);
    const after = rest.slice(match.index + match[0].length);
    found.push({ from: match[1], names: namesTaken(before, after) });
  }
  return found;
}

function namesTaken(before: string, after: string): string[] {
  const pattern = DESTRUCTURED.exec(before) ?? THEN_DESTRUCTURED.exec(after);
  if (pattern) return keysOf(pattern[1]);
  const property = AWAITED.test(before)
    ? PROPERTY.exec(after)?.[1]
    : THEN_PROPERTY.exec(after)?.[2];
  return property === undefined ? [] : [property];
}

/** The properties that a destructuring pattern takes. */
function keysOf(pattern: string): string[] {
  return pattern.split(",").map((part) => part.split(/[:=]/)[0].trim())
    .filter((key) => key !== "" && !key.startsWith("..."));
}
