/**
 * wireguard-go between two namespaces: built by the Go toolchain where there is one, and configured
 * over its own socket, so that no package is needed.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { generateKeyPairSync } from "node:crypto";
import { exec, type NetNs, randomSuffix, waitFor } from "../../testbed/netns.ts";
import { exists } from "./lib.ts";

/** Pinned, so that figures of two days compare. */
const MODULE = "golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446";
const BUILD_LIMIT_MS = 180_000;
const PORT = 51_820;

/** One end, made by {@linkcode wireguard}. */
interface End {
  ns: NetNs;
  /** Address of the end on the underlay. */
  underlay: string;
  /** Address of the end in the tunnel. */
  inner: string;
}

/** The program in a temporary folder, which goes when this is disposed of. */
export class WireguardGo implements AsyncDisposable {
  private constructor(readonly path: string, readonly folder: string) {}

  /** Builds it. @returns a line that says why not, where it cannot be had */
  static async build(): Promise<WireguardGo | string> {
    const folder = await Deno.makeTempDir({ prefix: "flanneld-wireguard-" });
    const built = new WireguardGo(`${folder}/wireguard`, folder);
    const failure = await install(folder);
    if (failure === undefined) return built;
    await built[Symbol.asyncDispose]();
    return failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }

  /** Joins two namespaces; the processes end with them. */
  async join(a: End, b: End): Promise<void> {
    const keys = [keyPair(), keyPair()];
    // The sockets of all namespaces lie in one folder.
    const suffix = randomSuffix();
    await Promise.all([a, b].map(async (end, index) => {
      const device = `wg${index}-${suffix}`;
      const other = [b, a][index];
      const socket = `/var/run/wireguard/${device}.sock`;
      end.ns.spawn(this.path, ["--foreground", device], { env: { LOG_LEVEL: "error" } });
      await waitFor(() => exists(socket), { what: socket });
      await configure(socket, {
        private_key: keys[index].privateKey,
        listen_port: `${PORT}`,
        public_key: keys[1 - index].publicKey,
        endpoint: `${other.underlay}:${PORT}`,
        allowed_ip: `${other.inner}/32`,
      });
      await end.ns.run("ip", "address", "add", `${end.inner}/32`, "dev", device);
      await end.ns.run("ip", "link", "set", device, "up");
      await end.ns.run("ip", "route", "add", `${other.inner}/32`, "dev", device);
    }));
  }
}

async function install(folder: string): Promise<string | undefined> {
  try {
    const args = [`${BUILD_LIMIT_MS / 1000}`, "go", "install", MODULE];
    const { code, stderr } = await exec("timeout", args, { env: { GOBIN: folder } });
    if (code === 0) return undefined;
    return code === 127 ? "it needs Go" : `it cannot be built: ${stderr.trim().split("\n").at(-1)}`;
  } catch (error) {
    return `it cannot be built: ${error}`;
  }
}

/** Keys in hexadecimal, as the socket takes them. */
function keyPair(): { privateKey: string; publicKey: string } {
  const { privateKey } = generateKeyPairSync("x25519");
  const { d, x } = privateKey.export({ format: "jwk" });
  const hex = (text: string) => Buffer.from(text, "base64url").toString("hex");
  return { privateKey: hex(d!), publicKey: hex(x!) };
}

/** Sets a device up (https://www.wireguard.com/xplatform/, "Configuration Protocol"). */
async function configure(socket: string, settings: Record<string, string>): Promise<void> {
  using connection = await Deno.connect({ transport: "unix", path: socket });
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}\n`);
  await connection.write(new TextEncoder().encode(`set=1\n${lines.join("")}\n`));
  const answer = new Uint8Array(256);
  const length = await connection.read(answer) ?? 0;
  const text = new TextDecoder().decode(answer.subarray(0, length)).trim();
  if (text !== "errno=0") throw new Error(`${socket}: ${text || "no answer"}`);
}
