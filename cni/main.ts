/**
 * The CNI plugin: what a container runtime executes, under the name `flannel`, for each container.
 *
 * It must start fast, so its modules are few and small: neither etcd's client, commander nor logtape
 * are among them, and our own bridge is loaded only where no other is installed.
 *
 * What it needs to be allowed, beside the environment: to run the plugins in CNI_PATH; to read the
 * subnet file, and CNI_PATH; to read and write `dataDir`; and for our own bridge to load the data
 * plane's library, to run iptables, and to read and write host-local's folder.
 *
 * @module
 */
import { VERSION } from "../agent/version.ts";
import { CniError, CODES } from "./errors.ts";
import { type Invocation, parseInvocation } from "./invocation.ts";
import { type JsonObject, parseNetConf, parseObject } from "./netconf.ts";
import { Plugin } from "./plugin.ts";
import { LATEST_VERSION, requireVersion, SUPPORTED_VERSIONS, versionResult } from "./versions.ts";

/**
 * Carries out the call that the environment and standard input describe; the result, or the error,
 * goes to standard output.
 *
 * @param libraryPath of the data plane
 * @param variables for other plugins, besides those of this process
 * @returns the exit status
 */
export async function runCni(
  libraryPath: string,
  variables: Record<string, string> = {},
): Promise<number> {
  const env = (name: string) => Deno.env.get(name);
  if (!env("CNI_COMMAND")) {
    console.error(
      `flanneld ${VERSION} as CNI plugin, for versions ${SUPPORTED_VERSIONS.join(", ")}: ` +
        "a container runtime calls it with CNI_COMMAND set",
    );
    return 0;
  }
  let version = "";
  try {
    const invocation = { ...parseInvocation(env), variables };
    const config = parseObject(await readInput(), "the network config");
    version = typeof config.cniVersion === "string" ? config.cniVersion : "";
    const result = await answer(invocation, config, version, libraryPath);
    if (result !== undefined) print(result);
    return 0;
  } catch (error) {
    print(CniError.from(error).toResult(version || LATEST_VERSION));
    return 1;
  }
}

async function answer(
  invocation: Invocation,
  config: JsonObject,
  version: string,
  libraryPath: string,
): Promise<JsonObject | undefined> {
  if (invocation.command === "VERSION") return versionResult(version);
  requireVersion(version, invocation.command);
  return await new Plugin(invocation, parseNetConf(config), libraryPath).run();
}

/** Milliseconds for the network config: the runtime has it at hand. */
const INPUT_WAIT = 15_000;
/** Bytes of it. */
const LARGEST_INPUT = 4 << 20;

/** All of standard input. */
async function readInput(): Promise<string> {
  const chunk = new Uint8Array(64 << 10);
  const text = new TextDecoder();
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`standard input did not end within ${INPUT_WAIT / 1000} s`)),
    INPUT_WAIT,
  );
  let input = "";
  try {
    for (let n: number | null = 0; n !== null;) {
      n = await Promise.race([Deno.stdin.read(chunk), late]);
      if (n !== null) input += text.decode(chunk.subarray(0, n), { stream: true });
      if (input.length > LARGEST_INPUT) throw new Error(`it has more than ${LARGEST_INPUT} bytes`);
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CniError(CODES.io, `cannot read the network config: ${reason}`);
  } finally {
    clearTimeout(timer);
  }
  return input;
}

function print(result: JsonObject): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(result, null, 4)}\n`);
  for (let written = 0; written < bytes.length;) {
    written += Deno.stdout.writeSync(bytes.subarray(written));
  }
}
