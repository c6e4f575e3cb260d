/**
 * `flanneld docker-opts`: the node's subnet and MTU as options for the Docker daemon.
 *
 * @module
 */
import { dirname } from "node:path";
import { readRegularFile, readSubnetFile } from "../agent/subnet_file.ts";
import { DataPlane } from "../dataplane/mod.ts";
import { mergeDaemonJson } from "./daemon_json.ts";
import { withFile } from "./files.ts";
import { libraryPath, takeCallersVariables } from "./paths.ts";

/** What to read and write. */
export interface DockerOptsOptions {
  subnetFile: string;
  /** File of environment variables; undefined: none is written. */
  output?: string;
  /** A variable for each option. */
  individual: boolean;
  /** One variable with all options. */
  combined: boolean;
  /** With `--ip-masq`, or `ip-masq`. */
  ipMasq: boolean;
  /** Name of the variable with all options. */
  key: string;
  /** The daemon's config file to set `bip`, `mtu` and `ip-masq` in. */
  daemonJson?: string;
}

/** Runs the command. Returns the exit status. */
export async function dockerOpts(options: DockerOptsOptions): Promise<number> {
  const { subnetFile, output } = options;
  const subnet = withFile("read", subnetFile, () => readSubnetFile(subnetFile));
  if (!subnet) {
    throw new Error(
      `no subnet file ${subnetFile}: check that flanneld is running and has a lease`,
    );
  }
  const values = new Map([...subnet].map(([key, value]) => [key, unquote(value)]));
  if (output !== undefined) {
    const env = { ...takeCallersVariables(), ...Deno.env.toObject() };
    const text = variablesText(values, options, env);
    withFile("write", output, () => Deno.writeTextFileSync(output, text));
  }
  if (options.daemonJson !== undefined) {
    const masquerades = options.ipMasq ? agentMasquerades(values) : undefined;
    // Where the agent masquerades, Docker must not, and the other way round.
    setInDaemonJson(
      options.daemonJson,
      values,
      masquerades === undefined ? undefined : !masquerades,
    );
  }
  const cidr = values.get("FLANNEL_SUBNET");
  if (cidr) await refuseGateway(cidr);
  return 0;
}

/** Docker's bridge must be the only way to the subnet. */
async function refuseGateway(cidr: string): Promise<void> {
  using dataplane = DataPlane.open(libraryPath());
  const route = await dataplane.gatewayTo(cidr);
  if (route) {
    throw new Error(
      `the routing table has a route to ${cidr} via ${route.via} dev ${route.dev}, which would ` +
        `take the containers' packets off this node: remove it`,
    );
  }
}

/** The subnet file is shell source, where values may stand in quotes. */
function unquote(value: string): string {
  return /^(["'])(.*)\1$/s.exec(value)?.[2] ?? value;
}

/**
 * The text of the file of variables, as flannel's mk-docker-opts.sh writes it.
 *
 * @param values of the subnet file
 * @param env where Docker options that are set already come from
 */
export function variablesText(
  values: ReadonlyMap<string, string>,
  options: Pick<DockerOptsOptions, "individual" | "combined" | "ipMasq" | "key">,
  env: Record<string, string>,
): string {
  const found = new Map(Object.entries(env).filter(([name]) => name.startsWith("DOCKER_OPT_")));
  const subnet = values.get("FLANNEL_SUBNET");
  if (subnet) found.set("DOCKER_OPT_BIP", `--bip=${subnet}`);
  const mtu = values.get("FLANNEL_MTU");
  if (mtu) found.set("DOCKER_OPT_MTU", `--mtu=${mtu}`);
  const masquerades = options.ipMasq ? agentMasquerades(values) : undefined;
  // Where the agent masquerades, Docker must not, and the other way round.
  if (masquerades !== undefined) found.set("DOCKER_OPT_IPMASQ", `--ip-masq=${!masquerades}`);
  const sorted = [...found].sort(([a], [b]) => a < b ? -1 : 1);
  const lines = options.individual ? sorted.map(([name, value]) => `${name}="${value}"`) : [];
  if (options.combined) {
    const before = env[options.key] ? `${env[options.key]} ` : "";
    const all = before + sorted.map(([, value]) => ` ${value}`).join("");
    lines.push(`${options.key}="${all}"`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

/** Whether the agent masquerades; undefined where the subnet file does not say. */
function agentMasquerades(values: ReadonlyMap<string, string>): boolean | undefined {
  const text = values.get("FLANNEL_IPMASQ");
  if (!text) return undefined;
  if (text !== "true" && text !== "false") {
    throw new Error(`invalid value of FLANNEL_IPMASQ: ${JSON.stringify(text)}`);
  }
  return text === "true";
}

/** Sets the node's subnet in the daemon's config, whole or not at all; says what it did. */
function setInDaemonJson(
  path: string,
  values: ReadonlyMap<string, string>,
  ipMasq: boolean | undefined,
): void {
  const bip = values.get("FLANNEL_SUBNET");
  const mtu = Number(values.get("FLANNEL_MTU"));
  if (!bip || !Number.isInteger(mtu) || mtu <= 0) {
    throw new Error(
      `the subnet file has no FLANNEL_SUBNET or FLANNEL_MTU: ${path} was left unchanged`,
    );
  }
  const before = withFile("read", path, () => readExisting(path));
  let text: string;
  try {
    text = mergeDaemonJson(before?.text ?? "", { bip, mtu, ipMasq });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${path} was left unchanged: ${reason}`);
  }
  const settings = ipMasq === false
    ? `bip ${bip}, mtu ${mtu} and ip-masq false`
    : `bip ${bip} and mtu ${mtu}`;
  if (text === before?.text) {
    console.log(`${path} already has ${settings}`);
    return;
  }
  withFile("write", path, () => replaceFile(before?.path ?? path, text, before?.info));
  console.log(`Set ${settings} in ${path}; restart Docker to apply them`);
}

/** Bytes of a daemon.json that is read. */
const LARGEST = 4 << 20;

interface ExistingFile {
  /** Behind symbolic links, which stay. */
  path: string;
  text: string;
  info: Deno.FileInfo;
}

function readExisting(path: string): ExistingFile | undefined {
  try {
    const real = Deno.realPathSync(path);
    return { path: real, text: readRegularFile(real, LARGEST), info: Deno.statSync(real) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Writes beside the file under another name, then renames it over the file; mode and owner stay. */
function replaceFile(path: string, text: string, info: Deno.FileInfo | undefined): void {
  Deno.mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${Deno.pid}.tmp`;
  try {
    {
      using file = Deno.openSync(temporary, { write: true, createNew: true, mode: 0o600 });
      const bytes = new TextEncoder().encode(text);
      for (let written = 0; written < bytes.length;) {
        written += file.writeSync(bytes.subarray(written));
      }
      file.syncSync();
    }
    if (info) Deno.chownSync(temporary, info.uid, info.gid);
    Deno.chmodSync(temporary, (info?.mode ?? 0o644) & 0o7777);
    Deno.renameSync(temporary, path);
  } catch (error) {
    try {
      Deno.removeSync(temporary);
    } catch {
      // Never made, or renamed already.
    }
    throw error;
  }
}
