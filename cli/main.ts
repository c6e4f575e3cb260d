/**
 * Program entry: of `deno run`, of the bundle and of the compiled binary.
 *
 * The agent's path imports as little as it can, since it is part of the time to the first lease:
 * neither commander nor any sub-command is loaded by it. A call as CNI plugin does not even load
 * the flags.
 *
 * @module
 */
import { UsageError } from "../agent/errors.ts";
import { VERSION } from "../agent/version.ts";
import { printable } from "../base/printable.ts";
import { isCniCall } from "./cni.ts";

/** Runs the program with these arguments and returns its exit status; the log is written by then. */
export async function main(args: readonly string[]): Promise<number> {
  if (isCniCall(args)) {
    const [{ runCni }, { libraryPath, takeCallersVariables }] = await Promise.all([
      import("../cni/main.ts"),
      import("./paths.ts"),
    ]);
    return await runCni(libraryPath(), takeCallersVariables());
  }
  const env = (name: string) => Deno.env.get(name);
  let verbosity = 0;
  try {
    const { parseFlags, resolveFlags } = await import("./parse.ts");
    const { given, help, ignored, leading, rest } = parseFlags(args);
    verbosity = resolveFlags(given, env, ["v"]).values.v;
    if (rest.length > 0) {
      (await import("./permissions.ts")).narrowToEntry(rest[0]);
      const { runCommand } = await import("./program.ts");
      const status = await runCommand(rest, leading);
      await flush();
      return status;
    }
    if (help) {
      const { printHelp } = await import("./program.ts");
      return printHelp();
    }
    const settings = resolveFlags(given, env);
    if (settings.values.version) {
      console.log(VERSION);
      return 0;
    }
    const { agentOptions } = await import("./agent_options.ts");
    const options = agentOptions(settings);
    const [{ configureLog, logIgnored, logWarnings }, { secretWarnings }] = await Promise.all([
      import("./log.ts"),
      import("./secrets.ts"),
    ]);
    configureLog(verbosity);
    logIgnored(ignored);
    logWarnings(secretWarnings(settings));
    const { runAgent } = await import("../agent/run.ts");
    const status = await runAgent(options);
    await flush();
    return status;
  } catch (error) {
    await flush();
    return report(error, verbosity);
  }
}

async function flush(): Promise<void> {
  const { flushLog } = await import("./log.ts");
  await flushLog();
}

/** One line for what went wrong; exit status 2 where the user can mend it by other arguments. */
export function report(error: unknown, verbosity: number): number {
  const message = error instanceof Deno.errors.NotCapable
    ? notPermitted(error)
    : error instanceof Error
    ? error.message
    : String(error);
  const line = message.trim().replaceAll(/\s*\n\s*/g, "; ") || "unknown error";
  console.error(printable(`flanneld: ${line}`));
  if (error instanceof UsageError) return 2;
  if (verbosity >= 4 && error instanceof Error) console.error(error.stack);
  return 1;
}

/** The runtime's own words advise flags that are not this program's. */
function notPermitted({ message }: Error): string {
  const what = message.replace(/^Requires /, "").replace(/, run again with.*/s, "");
  return `permission denied by the program's own sandbox: ${what}; if it should be allowed, see docs/security.md`;
}

if (import.meta.main) {
  Deno.exit(await main(Deno.args));
}
