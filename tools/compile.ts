/**
 * Makes the one binary with `deno compile`, which downloads its base (`denort`) or takes it from
 * `DENORT_BIN`: `deno task compile`.
 *
 * @module
 */
import { bundle } from "./bundle.ts";
import { widestPermissions } from "./grants.ts";
import { buildLibrary } from "./lib.ts";
import { run, runTool, ToolError } from "./process.ts";
import { BINARY, BUNDLE, BUNDLED_LIBRARY, RUNTIME_FLAGS, V8_FLAGS } from "./runtime.ts";

/** Seconds; most of it is for the base's download. */
const LIMIT = 120;

/**
 * Builds and compiles everything into {@link BINARY}.
 *
 * @throws {ToolError} where a part cannot be built or the base cannot be had
 */
export async function compile(): Promise<void> {
  const library = await buildLibrary();
  await bundle();
  await Deno.mkdir(BUNDLED_LIBRARY.replace(/\/[^/]*$/, ""), { recursive: true });
  await Deno.copyFile(library, BUNDLED_LIBRARY);
  const result = await run(Deno.execPath(), [
    "compile",
    "--quiet",
    "--no-check",
    ...RUNTIME_FLAGS,
    ...widestPermissions(),
    `--v8-flags=${V8_FLAGS.join(",")}`,
    `--include=${BUNDLE}`,
    `--include=${BUNDLED_LIBRARY}`,
    `--output=${BINARY}`,
    `${BUNDLE}/main.js`,
  ], { limit: LIMIT, quiet: true });
  if (result.timedOut) throw new ToolError(`not done within ${LIMIT} s`);
  if (result.code !== 0) throw new ToolError(reason(result.tail));
}

/** The error's first line and its causes, as one line. */
function reason(output: string): string {
  const lines = output.split("\n").map((line) => line.trim());
  const from = Math.max(0, lines.findIndex((line) => line.startsWith("error")));
  const to = lines.findIndex((line) => line.startsWith("Stack backtrace"));
  const told = lines.slice(from, to < 0 ? undefined : to).filter((line) => line !== "");
  return told.slice(0, 4).join(" ") || "deno compile failed";
}

if (import.meta.main) {
  await runTool("compile", async () => {
    await compile();
    console.log(`compile: ${BINARY}`);
  });
}
