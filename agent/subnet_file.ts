/**
 * The subnet file, `/run/flannel/subnet.env`: what container runtimes read of our lease, and what
 * we read back to ask for the same subnet.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { Lease, PreviousSubnets } from "../subnet/types.ts";

/** The file's text: flannel's keys in flannel's order. */
export function subnetFileText(
  network: NetworkConfig,
  lease: Lease,
  mtu: number,
  ipMasq: boolean,
): string {
  const lines: string[] = [];
  if (network.ipv4 && lease.subnet) {
    lines.push(`FLANNEL_NETWORK=${network.ipv4.network}`);
    lines.push(`FLANNEL_SUBNET=${gateway(lease.subnet)}`);
  }
  if (network.ipv6 && lease.ipv6Subnet) {
    lines.push(`FLANNEL_IPV6_NETWORK=${network.ipv6.network}`);
    lines.push(`FLANNEL_IPV6_SUBNET=${gateway(lease.ipv6Subnet)}`);
  }
  lines.push(`FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${ipMasq}`);
  return lines.join("\n") + "\n";
}

/** The subnet's first host address with its length, what a bridge takes: `10.1.40.1/24`. */
export function gateway(subnet: Cidr): string {
  return `${subnet.nth(1n)}/${subnet.length}`;
}

/**
 * Writes a file whole or not at all: beside it under another name, synced, then renamed over it.
 *
 * @param mode of the file, whatever it was before
 * @throws {Deno.errors.PermissionDenied | Error} where the folder cannot be made or written
 */
export async function writeWhole(path: string, text: string, mode: number): Promise<void> {
  // Not by node:path, which the CNI plugin, that reads the file, has no time to load.
  const folder = path.slice(0, path.lastIndexOf("/") + 1) || ".";
  await Deno.mkdir(folder, { recursive: true, mode: 0o755 });
  const temporary = `${path}.${Deno.pid}.tmp`;
  // Of a process with this id that was killed, or a trap in a folder that others can write to:
  // a pipe would be waited for, a link would lead to some other file.
  await Deno.remove(temporary).catch(() => {});
  try {
    using file = await Deno.open(temporary, { write: true, createNew: true, mode });
    const bytes = new TextEncoder().encode(text);
    for (let written = 0; written < bytes.length;) {
      written += await file.write(bytes.subarray(written));
    }
    await file.syncData();
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
  await Deno.rename(temporary, path);
}

/** Writes the subnet file, for all to read. @throws as {@linkcode writeWhole} */
export async function writeSubnetFile(path: string, text: string): Promise<void> {
  await writeWhole(path, text, 0o644);
}

/** Whether something is at `path`, as far as this process may see. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Bytes of a subnet file that is read; ours have some 200. */
const LARGEST = 64 << 10;

/**
 * The text of a file, for one that somebody else may have put there.
 *
 * @param largest bytes that it may have
 * @throws {Deno.errors.NotFound} where it does not exist
 * @throws IsADirectory, or TypeError where it is not a regular file (reading a pipe might never end) or is larger
 */
export function readRegularFile(path: string, largest: number): string {
  const { isFile, isDirectory } = Deno.statSync(path);
  if (isDirectory) {
    throw new Deno.errors.IsADirectory(`${path} is not a regular file but a directory`);
  }
  if (!isFile) throw new TypeError(`${path} is not a regular file`);
  const file = Deno.openSync(path);
  try {
    // What `stat` says of the size is wrong for a file of the kernel's, and may be so for one that grows.
    const bytes = new Uint8Array(largest + 1);
    let length = 0;
    for (let n: number | null = 0; n !== null && length < bytes.length; length += n ?? 0) {
      n = file.readSync(bytes.subarray(length));
    }
    if (length > largest) throw new TypeError(`${path} has more than ${largest} bytes`);
    return new TextDecoder().decode(bytes.subarray(0, length));
  } finally {
    file.close();
  }
}

/** The file's keys and values; undefined where it does not exist. */
export function readSubnetFile(path: string): Map<string, string> | undefined {
  let text: string;
  try {
    text = readRegularFile(path, LARGEST);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) values.set(line.slice(0, at).trim(), line.slice(at + 1).trim());
  }
  return values;
}

/**
 * The subnets a former run wrote, null where there are none or the text is no subnet.
 *
 * @throws as {@linkcode readRegularFile}
 */
export function previousSubnets(path: string): PreviousSubnets {
  const values = readSubnetFile(path);
  const subnet = (key: string) => {
    try {
      const text = values?.get(key);
      return text ? Cidr.parse(text) : null;
    } catch {
      return null;
    }
  };
  return { subnet: subnet("FLANNEL_SUBNET"), ipv6Subnet: subnet("FLANNEL_IPV6_SUBNET") };
}
