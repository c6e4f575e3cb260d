/**
 * Builds the Rust parts: `deno task lib` builds the data plane's library.
 *
 * @module
 */
import { canRun, must, ROOT, runTool, ToolError } from "./process.ts";

/** Seconds; a first build compiles every dependency. */
const BUILD_LIMIT = 900;

/** Folder of what cargo builds for release. */
export function releaseFolder(): string {
  const target = Deno.env.get("CARGO_TARGET_DIR") || `${ROOT}/dataplane-rs/target`;
  return `${target}/release`;
}

/**
 * Builds the cdylib and returns its path.
 *
 * @throws {ToolError} where cargo is missing or fails
 */
export async function buildLibrary(): Promise<string> {
  await cargo("building the data plane's library", ["build", "-p", "dataplane"]);
  return `${releaseFolder()}/libdataplane.so`;
}

/**
 * Builds the example program by which the tests drive the tunnel alone.
 *
 * @throws {ToolError} where cargo is missing or fails
 */
export async function buildTunnelExample(): Promise<void> {
  await cargo("building the tunnel's example", ["build", "-p", "tunnel", "--example", "tunnel"]);
}

/**
 * Builds the launcher, linked statically so that it needs nothing of the node, and the program that
 * packs, and returns their paths.
 *
 * @throws {ToolError} where cargo is missing or fails
 */
export async function buildLauncher(): Promise<{ launcher: string; pack: string }> {
  await cargo("building the launcher", ["rustc", "-p", "launcher", "--bin", "launcher"], [
    "--",
    "-C",
    "target-feature=+crt-static",
  ]);
  await cargo("building the packer", ["build", "-p", "launcher", "--bin", "pack"]);
  return { launcher: `${releaseFolder()}/launcher`, pack: `${releaseFolder()}/pack` };
}

/** Whether cargo can be run. */
export function hasCargo(): Promise<boolean> {
  return canRun("cargo", "--version");
}

async function cargo(step: string, args: string[], rest: string[] = []): Promise<void> {
  if (!await hasCargo()) {
    throw new ToolError(`${step} needs cargo: install Rust's stable toolchain with rustup`);
  }
  await must(step, "cargo", [...args, "--release", "--locked", ...rest], {
    cwd: `${ROOT}/dataplane-rs`,
    limit: BUILD_LIMIT,
    env: { CARGO_ENCODED_RUSTFLAGS: rustFlags().join("\x1f") },
  });
}

/**
 * The environment's own flags, and those that keep this machine's paths out of what is built (they
 * are in the messages of panics), so that it is the same everywhere.
 */
function rustFlags(): string[] {
  const { CARGO_HOME, HOME, RUSTFLAGS = "" } = Deno.env.toObject();
  const home = CARGO_HOME || `${HOME}/.cargo`;
  return [
    ...RUSTFLAGS.split(" ").filter((flag) => flag !== ""),
    `--remap-path-prefix=${home}/registry/src=crates`,
    `--remap-path-prefix=${ROOT}/=`,
  ];
}

if (import.meta.main) {
  await runTool("lib", async () => console.log(`lib: ${await buildLibrary()}`));
}
