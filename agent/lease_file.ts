/**
 * The lease file, beside the subnet file: which lease in etcd this node holds, to know it again after
 * a restart, whatever its address is then. For the agent alone; without it, a node knows its lease by
 * its public address.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { parseJsonObject } from "../subnet/json.ts";
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

/** See the module. */
export class LeaseFile implements LeaseMemory {
  readonly #path: string;
  #writing: Promise<void> | undefined;
  /** What is to be written next. */
  #next: HeldLease | undefined;
  #hasFailed = false;

  constructor(path: string) {
    this.#path = path;
  }

  recall(): HeldLease | undefined {
    try {
      const text = read(this.#path);
      return text === undefined ? undefined : parse(text);
    } catch (error) {
      log.warn("Ignoring the lease file {path}: {reason}", {
        path: this.#path,
        reason: error instanceof Error ? error.message : String(error),
      });
      return undefined;
    }
  }

  keep(held: HeldLease): void {
    this.#next = held;
    this.#writing ??= this.#write().finally(() => this.#writing = undefined);
  }

  async #write(): Promise<void> {
    while (this.#next) {
      const text = JSON.stringify({ version: VERSION, ...this.#next });
      this.#next = undefined;
      try {
        await writeWhole(this.#path, `${text}\n`, 0o600);
        this.#hasFailed = false;
      } catch (error) {
        if (!this.#hasFailed) {
          log.warn(
            "Cannot write the lease file {path}: {error}; after a restart under another address " +
              "this node will take another subnet",
            { path: this.#path, error: String(error) },
          );
        }
        this.#hasFailed = true;
      }
    }
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
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** @throws Error that says what is wrong */
function parse(text: string): HeldLease {
  let value: Record<string, unknown>;
  try {
    value = { ...parseJsonObject(text) };
  } catch (error) {
    throw new TypeError(`it ${(error as Error).message}`);
  }
  if (value.version !== VERSION) throw new TypeError(`its version is not ${VERSION}`);
  const { cluster, prefix, key, leaseId, created, revision } = value;
  const held = {
    cluster: number("cluster", cluster),
    prefix: string("prefix", prefix),
    key: string("key", key),
    leaseId: number("leaseId", leaseId),
    created: number("created", created),
  };
  return revision === undefined ? held : { ...held, revision: number("revision", revision) };
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
