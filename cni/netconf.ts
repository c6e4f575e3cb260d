/**
 * The network config of the plugin, as the runtime gives it on standard input.
 *
 * @module
 */
import { CniError, CODES, invalid } from "./errors.ts";
import { IDENTIFIER } from "./invocation.ts";

/** A JSON object. */
export type JsonObject = Record<string, unknown>;

/** A container's interface that is on the network. */
export interface ValidAttachment {
  containerID: string;
  ifname: string;
}

/** Key of a GC call: the attachments that are to stay. */
export const VALID_ATTACHMENTS = "cni.dev/valid-attachments";

const DEFAULT_SUBNET_FILE = "/run/flannel/subnet.env";
const DEFAULT_DATA_DIR = "/var/lib/cni/flannel";

/** The config with its defaults. */
export interface NetConf {
  /** Empty where it is not given. */
  cniVersion: string;
  name: string;
  /** File that flanneld writes its lease to. */
  subnetFile: string;
  /** Folder in which the delegates' configs are kept. */
  dataDir: string;
  /** Keys for the delegate's config. */
  delegate: JsonObject;
  /** Base of the delegate's `ipam`. */
  ipam: JsonObject;
  /** What the runtime passes by the config's capabilities. */
  runtimeConfig: JsonObject | undefined;
  /** The result of ADD, for CHECK and DEL. */
  prevResult: JsonObject | undefined;
  /** Of GC. */
  validAttachments: ValidAttachment[];
}

/**
 * Parses JSON to an object.
 *
 * @throws {CniError} code 6
 */
export function parseObject(text: string, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CniError(CODES.decoding, `${what} is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new CniError(CODES.decoding, `${what} is not a JSON object`);
  return value;
}

/** Whether a JSON value is an object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Whether a value can be a plugin's type: the name of a file in a folder of CNI_PATH, and nothing
 * that leads out of it or hides.
 */
export function isPluginName(value: unknown): value is string {
  return typeof value === "string" && /^[^-./\\\s\p{Cc}][^/\\\s\p{Cc}]*$/u.test(value) &&
    value.length <= LONGEST_NAME;
}

/** Bytes of a file's name; a plugin's has no other characters than a few of them. */
const LONGEST_NAME = 255;

/**
 * Refuses a part of the config in which any object, however deep, has a `type` that is not a
 * plugin's name: plugins run others by such keys.
 *
 * @throws {CniError} code 7 naming the key
 */
export function requirePluginNames(part: unknown, key: string): void {
  if (typeof part !== "object" || part === null) return;
  for (const [name, value] of Object.entries(part)) {
    const inner = `${key}.${name}`;
    if (name === "type" && typeof value === "string" && value !== "" && !isPluginName(value)) {
      throw invalid(`${inner} ${JSON.stringify(value)} is not a plugin's name`);
    }
    requirePluginNames(value, inner);
  }
}

/**
 * Reads the network config.
 *
 * @throws {CniError} code 7 naming the key that is wrong
 */
export function parseNetConf(config: JsonObject): NetConf {
  const name = textOf(config, "name", "");
  if (!IDENTIFIER.test(name)) {
    throw invalid(
      `name ${
        JSON.stringify(name)
      } is not a network name: a letter or digit, then letters, digits, _, . or -`,
    );
  }
  return {
    cniVersion: textOf(config, "cniVersion", ""),
    name,
    subnetFile: textOf(config, "subnetFile", DEFAULT_SUBNET_FILE),
    dataDir: textOf(config, "dataDir", DEFAULT_DATA_DIR),
    delegate: objectOf(config, "delegate") ?? {},
    ipam: objectOf(config, "ipam") ?? {},
    runtimeConfig: objectOf(config, "runtimeConfig"),
    prevResult: objectOf(config, "prevResult"),
    validAttachments: attachmentsOf(config),
  };
}

function textOf(config: JsonObject, key: string, otherwise: string): string {
  const value = config[key] ?? otherwise;
  if (typeof value !== "string") throw invalid(`${key} ${JSON.stringify(value)} is not a string`);
  return value === "" ? otherwise : value;
}

function objectOf(config: JsonObject, key: string): JsonObject | undefined {
  const value = config[key] ?? undefined;
  if (value !== undefined && !isObject(value)) {
    throw invalid(`${key} ${JSON.stringify(value)} is not a JSON object`);
  }
  return value;
}

function attachmentsOf(config: JsonObject): ValidAttachment[] {
  const value = config[VALID_ATTACHMENTS] ?? [];
  const fits = Array.isArray(value) &&
    value.every((item) =>
      isObject(item) && typeof item.containerID === "string" && typeof item.ifname === "string"
    );
  if (!fits) {
    throw invalid(`${VALID_ATTACHMENTS} is not an array of objects with containerID and ifname`);
  }
  return value as ValidAttachment[];
}
