/**
 * Makes `dist/flanneld`, the one binary: with `deno compile`, or, where its base cannot be had, by
 * packing this runtime behind the launcher. `deno task build`.
 *
 * @module
 */
import { compile } from "./compile.ts";
import { pack } from "./pack.ts";
import { runTool, ToolError } from "./process.ts";
import { BINARY } from "./runtime.ts";

if (import.meta.main) {
  await runTool("build", async () => {
    const way = await compiled() ? "compile" : await packed();
    const { size } = await Deno.stat(BINARY);
    console.log(`build: ${BINARY} by ${way}, ${(size / 1e6).toFixed(1)} MB`);
  });
}

async function compiled(): Promise<boolean> {
  try {
    await compile();
    return true;
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    console.log(notAvailable(error.message));
    return false;
  }
}

/** One line that does not look like a failure: packing gives the same binary. */
export function notAvailable(reason: string): string {
  const [first] = reason.replace(/^error: /i, "").split(/[:;\n]| Caused by/);
  const short = /base binary/i.test(reason) ? "its base cannot be downloaded" : first.trim();
  return `build: deno compile is not available here (${short}): packing instead`;
}

async function packed(): Promise<string> {
  await pack();
  return "pack";
}
