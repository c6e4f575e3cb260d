/**
 * The lease file, beside the subnet file: which lease in etcd this node holds, to know it again after
 * a restart, whatever its address is then, and by which uplink it is reached. For the agent alone;
 * without it, a node knows its lease by its public address.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { parseJsonObject } from "../base/json.ts";
import type { HeldLease, LeaseMemory } from "../subnet/types.ts";
import { writeWhole } from "./subnet_file.ts";

const log = getLogger(["flanneld", "agent"]);

/** Bytes of a file that is read. Ours have some 200; a prefix may be long. */
const LARGEST = 4_096;
/** The format, for the versions to come. */
const VERSION = 1;

/** Path of the lease file that belongs to a subnet file. */
export function leaseFileOf(subnetFile: string): string {
  return `${subnetFile}.lease`;
}

/** The interface that a node was reached by, chosen by its default route. */
export interface Uplink {
  name: string;
  ip: string | null;
  ipv6: string | null;
  /** The family of the default route. */
  byRoute: "ipv4" | "ipv6";
}

/** What the file holds. */
interface Contents {
  held?: HeldLease;
  uplink?: Uplink;
  /** {@linkcode stampOf} the subnet file as this program wrote it. */
  subnetFile?: string;
}

/** See the module. */
export class LeaseFile implements LeaseMemory {
  readonly #path: string;
  #contents: Contents | undefined;
  #writing: Promise<void> | undefined;
  #isStale = false;
  #hasFailed = false;

  constructor(path: string) {
    this.#path = path;
  }

  recall(): HeldLease | undefined {
    return this.#read().held;
  }

  keep(held: HeldLease): void {
    this.#change({ held });
  }

  /** The uplink that was kept last. */
  recallUplink(): Uplink | undefined {
    return this.#read().uplink;
  }

  /** Keeps the uplink, with the lease; undefined where an option chose it. */
  keepUplink(uplink: Uplink | undefined): void {
    this.#change({ uplink });
  }

  /** Which subnet file this program wrote last, by {@linkcode stampOf}; undefined where that is not known. */
  recallSubnetFile(): string | undefined {
    return this.#read().subnetFile;
  }

  /** Keeps which subnet file this program wrote, with the lease. */
  keepSubnetFile(stamp: string | undefined): void {
    this.#change({ subnetFile: stamp });
  }

  #read(): Contents {
    if (this.#contents !== undefined) return this.#contents;
    this.#contents = {};
    try {
      const text = read(this.#path);
      if (text !== undefined) this.#contents = parse(text);
    } catch (error) {
      log.warn("Ignoring the lease file {path}: {reason}", {
        path: this.#path,
        reason: error instanceof Error ? error.message : String(error),
      });
    }
    return this.#contents;
  }

  #change(change: Contents): void {
    const before = this.#read();
    const after = { ...before, ...change };
    if (!this.#hasFailed && JSON.stringify(after) === JSON.stringify(before)) return;
    this.#contents = after;
    // The file exists only if this program has held a lease.
    if (after.held === undefined) return;
    this.#isStale = true;
    this.#writing ??= this.#write().finally(() => this.#writing = undefined);
  }

  async #write(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false;
      const { held, ...more } = this.#read();
      const text = JSON.stringify({ version: VERSION, ...held, ...more });
      try {
        await writeWhole(this.#path, `${text}\n`, 0o600);
        this.#hasFailed = false;
      } catch (error) {
        if (!this.#hasFailed) {
          log.warn(
            "Cannot write the lease file {path}: {error}; if this node's address has changed by the " +
              "next restart, the node will lease another subnet",
            { path: this.#path, error: String(error) },
          );
        }
        this.#hasFailed = true;
      }
    }
  }
}

/** What tells a file from others that were at its path, or from itself before a change; undefined where there is none. */
export function stampOf(path: string): string | undefined {
  try {
    const { ino, mtime, size } = Deno.statSync(path);
    return `${ino} ${mtime?.getTime() ?? 0} ${size}`;
  } catch {
    return undefined;
  }
}

/** The file's text; undefined if it does not exist. @throws Error if it is not a regular file of that size */
function read(path: string): string | undefined {
  try {
    const { isFile, size } = Deno.lstatSync(path);
    if (!isFile) throw new TypeError("it is not a regular file");
    if (size > LARGEST) throw new TypeError(`it has ${size} bytes, more than ${LARGEST}`);
    return Deno.readTextFileSync(path);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return undefined;
    throw error;
  }
}

/** @throws Error that says what is wrong */
function parse(text: string): Contents {
  let value: Record<string, unknown>;
  try {
    value = { ...parseJsonObject(text) };
  } catch (error) {
    throw new TypeError(`it ${(error as Error).message}`);
  }
  if (value.version !== VERSION) throw new TypeError(`its version is not ${VERSION}`);
  const { cluster, prefix, key, leaseId, created, revision, uplink, subnetFile } = value;
  const held = {
    cluster: number("cluster", cluster),
    prefix: string("prefix", prefix),
    key: string("key", key),
    leaseId: number("leaseId", leaseId),
    created: number("created", created),
  };
  return {
    held: revision === undefined ? held : { ...held, revision: number("revision", revision) },
    ...(uplink === undefined ? {} : { uplink: parseUplink(uplink) }),
    ...(subnetFile === undefined ? {} : { subnetFile: string("subnetFile", subnetFile) }),
  };
}

function parseUplink(value: unknown): Uplink {
  const { name, ip, ipv6, byRoute } = { ...value as Record<string, unknown> };
  if (byRoute !== "ipv4" && byRoute !== "ipv6") throw new TypeError("its uplink has no family");
  const address = (what: string, ip: unknown) => ip === null ? null : string(what, ip);
  return {
    name: string("uplink's name", name),
    ip: address("uplink's ip", ip),
    ipv6: address("uplink's ipv6", ipv6),
    byRoute,
  };
}

function string(name: string, value: unknown): string {
  if (typeof value === "string" && value !== "") return value;
  throw new TypeError(`its ${name} is not a string`);
}

/** A decimal number of 64 bits, as etcd's ids are: too large for a number of JavaScript's. */
function number(name: string, value: unknown): string {
  if (typeof value === "string" && /^-?\d{1,20}$/.test(value)) return value;
  throw new TypeError(`its ${name} is not a number in decimal digits`);
}
