/**
 * Formatting, lint and types of both languages: `deno task check`.
 *
 * @module
 */
import { checkLicences } from "./licences.ts";
import { hasCargo } from "./lib.ts";
import { must, ROOT, runTool } from "./process.ts";

const LIMIT = 600;

/**
 * Runs every check; the Rust ones where cargo is there.
 *
 * @throws {ToolError} at the first that finds something
 */
export async function check(): Promise<void> {
  const deno = Deno.execPath();
  await must("deno fmt", deno, ["fmt", "--check", "--quiet"], { limit: LIMIT });
  await must("deno lint", deno, ["lint", "--quiet"], { limit: LIMIT });
  await must("deno check", deno, ["check", "--quiet"], { limit: LIMIT });
  if (!await hasCargo()) {
    console.log("check: cargo is not installed: the Rust parts are not checked");
    return;
  }
  await checkLicences();
  const rust = { limit: LIMIT, cwd: `${ROOT}/dataplane-rs` };
  await must("cargo fmt", "cargo", ["fmt", "--all", "--check"], rust);
  const clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet"];
  await must("cargo clippy", "cargo", [...clippy, "--", "-D", "warnings"], rust);
}

if (import.meta.main) await runTool("check", check);
