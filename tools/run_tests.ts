/**
 * Sets up, builds and runs all tests: `deno task test`; only those that need neither root nor
 * packages: `deno task test:unit`.
 *
 * The parts run one after another, each within a limit; a failing part does not keep the next from
 * running, unless that needs it. The last line is `N passed, N failed`.
 *
 * @module
 */
import { check } from "./check.ts";
import { TestCount } from "./count.ts";
import { buildTunnelExample, hasCargo } from "./lib.ts";
import { must, ROOT, run, ToolError } from "./process.ts";
import { BINARY } from "./runtime.ts";
import { setup } from "./setup.ts";

/** Seconds for everything; what is left of it is the integration tests' limit. */
const WHOLE_LIMIT = 58 * 60;
const UNIT_LIMIT = 300;
const CARGO_LIMIT = 900;
const BUILD_LIMIT = 900;

const total = new TestCount();
const started = performance.now();

/** Runs a part; one that fails without a failing test counts as one failure. */
async function part(name: string, body: () => Promise<TestCount | void>): Promise<boolean> {
  console.log(`\n== ${name}`);
  const from = performance.now();
  let problem: string | undefined;
  try {
    const count = await body();
    if (count) total.addCount(count);
    if (count && count.failed > 0) problem = "tests failed";
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    total.failed++;
    problem = error.message;
  }
  const took = ((performance.now() - from) / 1000).toFixed(0);
  console.log(`== ${name}: ${problem ?? "done"} (${took} s)`);
  return problem === undefined;
}

async function tests(
  program: string,
  args: readonly string[],
  options: { limit: number; cwd?: string; env?: Record<string, string> },
): Promise<TestCount> {
  const count = new TestCount();
  const result = await run(program, args, { ...options, onOutput: (text) => count.add(text) });
  if (result.timedOut) throw new ToolError(`not done within ${options.limit} s`);
  if (result.code !== 0 && count.failed === 0) {
    throw new ToolError(`${args[0]} ended with status ${result.code}`);
  }
  return count;
}

function denoTests(
  paths: readonly string[],
  limit: number,
  env?: Record<string, string>,
): Promise<TestCount> {
  const args = ["test", "--allow-all", "--no-check", "--doc", "--permit-no-files", ...paths];
  return tests(Deno.execPath(), args, { limit, env });
}

async function unit(): Promise<void> {
  await part(
    "unit tests",
    () => denoTests(["--ignore=tests,testbed,dist,node_modules,.tools"], UNIT_LIMIT),
  );
  if (!await hasCargo()) {
    console.log("\n== Rust unit tests: left out, cargo is not installed");
    return;
  }
  await part(
    "Rust unit tests",
    async () => {
      const options = { limit: CARGO_LIMIT, cwd: `${ROOT}/dataplane-rs` };
      const args = ["test", "--workspace", "--locked"];
      console.log(
        "Compiling the Rust workspace. The first time takes some minutes (the limit is " +
          `${CARGO_LIMIT / 60}), later ones take seconds.`,
      );
      // Apart from the run, whose output is short, so that cargo's own lines show how far it is.
      await must("compiling the Rust tests", "cargo", [...args, "--no-run"], options);
      return await tests("cargo", [...args, "--quiet"], options);
    },
  );
}

async function all(): Promise<void> {
  const ready = await part("setup", setup);
  await part("check", check);
  await unit();
  if (!ready) return;
  const built = await part(
    "build",
    async () => {
      await must("building", Deno.execPath(), ["run", "-A", "tools/build.ts"], {
        limit: BUILD_LIMIT,
      });
      await buildTunnelExample();
    },
  );
  if (!built) return;
  const left = Math.max(60, WHOLE_LIMIT - (performance.now() - started) / 1000);
  await part(
    `integration tests of ${BINARY}`,
    () => denoTests(["tests", "testbed"], Math.floor(left), { FLANNELD_BIN: BINARY }),
  );
}

await (Deno.args.includes("--unit") ? unit() : all());
console.log(`\n${total.passed} passed, ${total.failed} failed`);
Deno.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
