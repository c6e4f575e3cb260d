/**
 * Masquerades what a container sends out of its subnet: the rules, and the chain's name, of the
 * `bridge` plugin, so that either removes what the other made.
 *
 * @module
 */
import { type CommandResult, Commands } from "../traffic/commands.ts";
import { jumpsTo, saveLines } from "../traffic/save_text.ts";
import { CniError, CODES } from "./errors.ts";
import { familyOf, type ResultIp } from "./result.ts";

/** Bytes of an iptables chain's name. */
const CHAIN_LENGTH = 28;

const MULTICAST = { 4: "224.0.0.0/4", 6: "ff00::/8" } as const;

/** Name of a container's chain. */
export async function chainName(network: string, containerId: string): Promise<string> {
  return `CNI-${await digest("SHA-512", network + containerId)}`.slice(0, CHAIN_LENGTH);
}

/** A hash of a text in hexadecimal. */
export async function digest(algorithm: string, text: string): Promise<string> {
  const bytes = await crypto.subtle.digest(algorithm, new TextEncoder().encode(text));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The rules of one address, as iptables-restore takes them. */
export function masqueradeRules(chain: string, address: string, comment: string): string {
  const told = `-m comment --comment ${JSON.stringify(comment)}`;
  const [ip] = address.split("/");
  return [
    "*nat",
    `:${chain} - [0:0]`,
    `-A ${chain} -d ${address} -j ACCEPT ${told}`,
    `-A ${chain} ! -d ${MULTICAST[familyOf(address)]} -j MASQUERADE ${told}`,
    `-A POSTROUTING -s ${ip} -j ${chain} ${told}`,
    "COMMIT",
    "",
  ].join("\n");
}

/** A container on a network. */
interface Container {
  network: string;
  containerId: string;
}

/**
 * Adds the rules of a container's addresses.
 *
 * @throws {CniError} where iptables is missing or refuses
 */
export async function masquerade(ips: readonly ResultIp[], container: Container): Promise<void> {
  const commands = new Commands();
  const chain = await chainName(container.network, container.containerId);
  for (const { address } of ips) {
    const restore = await tool(commands, `${iptables(address)}-restore`);
    const rules = masqueradeRules(chain, address, commentOf(container));
    const result = await commands.run(restore, ["--noflush", "--wait"], rules);
    if (result.code !== 0) throw refused(restore, result);
  }
}

/** Removes a container's rules; what is not there is no error. */
export async function unmasquerade(container: Container): Promise<void> {
  const commands = new Commands();
  const chain = await chainName(container.network, container.containerId);
  for (const name of ["iptables", "ip6tables"]) {
    const path = await commands.find(name);
    // Where it is not installed there can be no rules of it.
    if (path === undefined) continue;
    const listed = await commands.run(path, ["--wait", "-t", "nat", "-S"]);
    const removal = removalOf(chain, listed.stdout);
    if (removal === undefined) continue;
    const restore = await tool(commands, `${name}-restore`);
    const result = await commands.run(restore, ["--noflush", "--wait"], removal);
    if (result.code !== 0) throw refused(restore, result);
  }
}

/** What iptables-restore takes to remove a chain and the jumps to it, by the rules listed. */
export function removalOf(chain: string, listed: string): string | undefined {
  const lines = [...saveLines(listed)];
  if (!lines.includes(`-N ${chain}`)) return undefined;
  const jumps = lines.filter((line) => line.startsWith("-A ") && jumpsTo(line, chain));
  return [
    "*nat",
    ...jumps.map((line) => line.replace("-A", "-D")),
    `-F ${chain}`,
    `-X ${chain}`,
    "COMMIT",
    "",
  ].join("\n");
}

function commentOf({ network, containerId }: Container): string {
  return `name: ${JSON.stringify(network)} id: ${JSON.stringify(containerId)}`;
}

function iptables(address: string): string {
  return familyOf(address) === 4 ? "iptables" : "ip6tables";
}

async function tool(commands: Commands, name: string): Promise<string> {
  const path = await commands.find(name);
  if (path !== undefined) return path;
  throw new CniError(
    CODES.unsupportedField,
    `delegate.ipMasq true needs ${name}, which is not installed in ${commands.folders.join(", ")}`,
    "install it, start flanneld with --ip-masq, or set delegate.ipMasq to false",
  );
}

function refused(path: string, { stderr }: CommandResult): CniError {
  return new CniError(CODES.internal, `${path}: ${stderr.replaceAll(/\s*\n\s*/g, "; ")}`);
}
