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

await runTool("build", async () => {
  const way = await compiled() ? "compile" : await packed();
  const { size } = await Deno.stat(BINARY);
  console.log(`build: ${BINARY} by ${way}, ${(size / 1e6).toFixed(1)} MB`);
});

async function compiled(): Promise<boolean> {
  try {
    await compile();
    return true;
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    console.log(`build: not by compile: ${error.message}`);
    return false;
  }
}

async function packed(): Promise<string> {
  await pack();
  return "pack";
}
