/**
 * Addresses of the node's subnets for its containers, where the plugin `host-local` is not there.
 *
 * Its files are host-local's: a folder a network in which each reserved address is a file that names
 * its container and interface, the last one given in each range, and a lock. So that plugin can be
 * installed later and knows what was given, and the other way round.
 *
 * @module
 */
import { Cidr, formatIp, parseIp, tryParseIp } from "../base/cidr.ts";
import { readRegularFile } from "../agent/subnet_file.ts";
import type { DelegateConf } from "./delegate.ts";
import { CniError, CODES, invalid } from "./errors.ts";
import type { Invocation } from "./invocation.ts";
import { lockFile, replaceFile } from "./lock.ts";
import { isObject, type ValidAttachment } from "./netconf.ts";
import { unsupported } from "./own_options.ts";
import { type IpamResult, parseIpamResult, type ResultIp } from "./result.ts";

const DEFAULT_FOLDER = "/var/lib/cni/networks";
const LOCK = "lock";
const LAST = "last_reserved_ip.";

/** Keys of `ipam` that are understood. */
const KEYS = ["type", "ranges", "routes", "dataDir"];

/** Bytes of a file that is read: a container's id and a device's name. */
const LARGEST = 4_096;

/** How an owner stands in an address's file. */
const LINE_BREAK = "\r\n";

/** A container's interface. */
type Owner = Pick<Invocation, "containerId" | "ifname">;

/** The reservations of one network. */
export class OwnIpam {
  readonly #folder: string;
  readonly #subnets: Cidr[];
  readonly #routes: unknown;

  /**
   * @param isRemoval nothing is to be given, so that keys which only host-local knows do no harm
   * @throws {CniError} code 2 for a key that only host-local knows, code 7 for a wrong one
   */
  constructor(conf: DelegateConf, args = "", isRemoval = false) {
    const { dataDir = DEFAULT_FOLDER, ranges = [], routes } = conf.ipam;
    for (const [key, value] of Object.entries(conf.ipam)) {
      if (!KEYS.includes(key) && !isRemoval) throw unsupported(`ipam.${key}`, value);
    }
    if (typeof dataDir !== "string" || !dataDir.startsWith("/")) {
      throw invalid(`ipam.dataDir ${JSON.stringify(dataDir)} is not an absolute path`);
    }
    if (!isRemoval) refuseWishes(conf, args);
    this.#folder = `${dataDir}/${conf.name}`;
    this.#subnets = (isRemoval ? [] : ranges as { subnet: string }[][]).map(([range]) =>
      Cidr.parse(range.subnet)
    );
    this.#routes = routes;
  }

  /**
   * Reserves an address in each subnet.
   *
   * @throws {CniError} where one has none left; then none is reserved
   */
  add(owner: Owner): IpamResult {
    const ips = this.#locked(() => {
      const taken = this.#reservations();
      const before = taken.filter(({ text }) => text === ownerText(owner));
      if (before.length > 0) {
        throw new CniError(
          CODES.internal,
          `${owner.containerId} ${owner.ifname} already has the address ${before[0].ip}`,
          "the runtime must call DEL before it calls ADD again",
        );
      }
      const given: ResultIp[] = [];
      try {
        for (const [index] of this.#subnets.entries()) given.push(this.#reserve(index, owner));
      } catch (error) {
        for (const { address } of given) this.#release(address.split("/")[0]);
        throw error;
      }
      return given;
    });
    return parseIpamResult({ ips, routes: this.#routes }, "ipam");
  }

  /** Gives the addresses back; nothing where there are none. */
  remove(owner: Owner): void {
    this.#releaseWhere((text) => text === ownerText(owner));
  }

  /** Gives all addresses back but those of these attachments. */
  collect(valid: readonly ValidAttachment[]): void {
    const kept = new Set(
      valid.map(({ containerID, ifname }) => ownerText({ containerId: containerID, ifname })),
    );
    this.#releaseWhere((text) => !kept.has(text));
  }

  /** @throws {CniError} where the interface has not all of its addresses reserved */
  check(owner: Owner, { ips }: IpamResult): void {
    const held = this.#reservations().filter(({ text }) => text === ownerText(owner));
    const lost = ips.map(({ address }) => address.split("/")[0])
      .find((ip) => !held.some((reservation) => reservation.ip === ip));
    if (lost !== undefined) {
      throw new CniError(
        CODES.internal,
        `${lost} is not reserved for ${owner.containerId} ${owner.ifname} in ${this.#folder}`,
      );
    }
  }

  /** @throws {CniError} code 50 where a subnet has no address left */
  status(): void {
    const taken = new Set(this.#reservations().map(({ ip }) => ip));
    for (const subnet of this.#subnets) {
      if (nextFree(subnet, undefined, (ip) => taken.has(ip)) === undefined) throw exhausted(subnet);
    }
  }

  #reserve(index: number, owner: Owner): ResultIp {
    const subnet = this.#subnets[index];
    const lastFile = `${this.#folder}/${LAST}${index}`;
    const ip = nextFree(
      subnet,
      lastOf(lastFile, subnet),
      (ip) => readText(this.#file(ip)) !== undefined,
    );
    if (ip === undefined) throw exhausted(subnet);
    // Whole or not at all: an address whose owner is not known would never be given back.
    const temporary = `${this.#folder}/.reserving`;
    replaceFile(this.#file(ip), temporary, ownerText(owner));
    replaceFile(lastFile, temporary, ip);
    return { address: `${ip}/${subnet.length}`, gateway: subnet.nth(1n) };
  }

  #releaseWhere(unwanted: (text: string) => boolean): void {
    // The folder is not made for this.
    if (this.#reservations().length === 0) return;
    this.#locked(() => {
      for (const { ip, text } of this.#reservations()) if (unwanted(text)) this.#release(ip);
    });
  }

  #release(ip: string): void {
    Deno.removeSync(this.#file(ip));
  }

  #file(ip: string): string {
    return `${this.#folder}/${ip}`;
  }

  #reservations(): { ip: string; text: string }[] {
    return namesIn(this.#folder).filter(isAddress).flatMap((ip) => {
      const text = readText(this.#file(ip));
      return text === undefined ? [] : [{ ip, text: text.trim() }];
    });
  }

  #locked<T>(work: () => T): T {
    Deno.mkdirSync(this.#folder, { recursive: true, mode: 0o755 });
    // No `using`: the bundler's minifier drops it where the variable is named once.
    const lock = lockFile(`${this.#folder}/${LOCK}`, "another call for an address");
    try {
      return work();
    } finally {
      lock.release();
    }
  }
}

/** The next address after `last` that is not taken, round the subnet's end. */
export function nextFree(
  subnet: Cidr,
  last: bigint | undefined,
  taken: (ip: string) => boolean,
): string | undefined {
  // Neither the base address, nor the gateway, nor IPv4's broadcast address.
  const first = subnet.base + 2n;
  const end = subnet.family === 4 ? subnet.last - 1n : subnet.last;
  const count = end - first + 1n;
  const start = last === undefined || last < first || last >= end ? 0n : last - first + 1n;
  for (let step = 0n; step < count; step++) {
    const ip = formatIp(subnet.family, first + (start + step) % count);
    if (!taken(ip)) return ip;
  }
  return undefined;
}

/** What a runtime wishes an address to be; host-local knows how. */
function refuseWishes({ runtimeConfig, args }: DelegateConf, cniArgs: string): void {
  const cni = isObject(args) && isObject(args.cni) ? args.cni : {};
  const ips = (isObject(runtimeConfig) ? runtimeConfig.ips : undefined) ?? cni.ips;
  if (Array.isArray(ips) && ips.length > 0) throw unsupported("runtimeConfig.ips", ips);
  const wish = /(?:^|;)IP=([^;]+)/.exec(cniArgs);
  if (wish) throw unsupported("CNI_ARGS IP", wish[1]);
}

function exhausted(subnet: Cidr): CniError {
  return new CniError(CODES.notAvailable, `no free address left in ${subnet}`);
}

function ownerText({ containerId, ifname }: Owner): string {
  return `${containerId}${LINE_BREAK}${ifname}`;
}

function lastOf(file: string, subnet: Cidr): bigint | undefined {
  const text = readText(file)?.trim() ?? "";
  return subnet.containsIp(text) ? parseIp(text).value : undefined;
}

function isAddress(name: string): boolean {
  return tryParseIp(name) !== undefined;
}

/** Empty where the folder is not there. */
function namesIn(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Undefined where it does not exist; empty where it is no file of host-local's or ours. */
function readText(file: string): string | undefined {
  try {
    return readRegularFile(file, LARGEST);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof TypeError) return "";
    throw error;
  }
}
