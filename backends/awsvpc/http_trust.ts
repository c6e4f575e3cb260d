/**
 * Whose certificates AWS's endpoints may have: the bundle that AWS's own setting names and nothing
 * else, else the system's store, else Mozilla's list, which is part of the runtime.
 *
 * Read at each connection, so that a renewed bundle needs no restart; connections are rare.
 *
 * @module
 */
import { loadConfig } from "@smithy/core/config";
import { STORE_FILES, STORE_FOLDERS } from "./authorities.ts";
import { TransportError } from "./http_errors.ts";

/** Reads a variable; undefined where it is not set. */
export type Environment = (name: string) => string | undefined;

/** The authorities that are trusted. */
export interface Trust {
  /** PEM, one certificate each; undefined: the runtime's own list. */
  certificates: string[] | undefined;
  /** Where they are from, to be named in an error. */
  source: string;
}

/** Bytes; the whole list of Mozilla's is a quarter of one million. */
const LARGEST_FILE = 8_000_000;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/g;

/**
 * The authorities that are trusted now.
 *
 * @throws {TransportError} where a file that somebody named cannot be used
 */
export async function trustedAuthorities(env: Environment): Promise<Trust> {
  const variable = env("AWS_CA_BUNDLE");
  if (variable) return named("AWS_CA_BUNDLE", variable);
  const setting = await loadConfig<string>({
    environmentVariableSelector: () => undefined,
    configFileSelector: (profile) => profile.ca_bundle,
    default: "",
  })();
  if (setting) return named("ca_bundle in the shared config file", setting);
  return systemStore(env);
}

/** A file that somebody chose: whatever is wrong with it is an error. */
function named(setting: string, path: string): Trust {
  const fault = ({ code, what }: Fault) =>
    new TransportError(
      code,
      `${setting} names ${JSON.stringify(path)}, which ${what}`,
      "name a PEM file with the certificates of authorities there",
    );
  const read = readText(path);
  if (typeof read !== "string") throw fault(read);
  const certificates = certificatesIn(read);
  if (certificates.length === 0) {
    throw fault({ code: "NoCertificates", what: "has no certificate in PEM form" });
  }
  const begun = read.split("-----BEGIN CERTIFICATE-----").length - 1;
  const undecodable = certificates.findIndex((pem) => !isDer(pem)) + 1;
  // One that has lost its end is not among them.
  const broken = undecodable || (begun > certificates.length ? certificates.length + 1 : 0);
  if (broken > 0) {
    const what = `is damaged: certificate ${broken} in it cannot be decoded`;
    throw fault({ code: "DamagedCertificate", what });
  }
  return { certificates, source: `${setting} (${path})` };
}

function systemStore(env: Environment): Trust {
  const found: Trust[] = [];
  const file = env("SSL_CERT_FILE");
  if (file) found.push(named("SSL_CERT_FILE", file));
  else {
    const store = first(STORE_FILES, fromFile);
    if (store) found.push(store);
  }
  const folders = env("SSL_CERT_DIR")?.split(":").filter((folder) => folder !== "") ?? [];
  for (const folder of folders) found.push(...some(fromFolder(folder)));
  if (found.length === 0) found.push(...some(first(STORE_FOLDERS, fromFolder)));
  if (found.length === 0) {
    return { certificates: undefined, source: "Mozilla's list (this host has no store)" };
  }
  return {
    certificates: [...new Set(found.flatMap(({ certificates }) => certificates ?? []))],
    source: found.map(({ source }) => source).join(" and "),
  };
}

function first(paths: string[], read: (path: string) => Trust | undefined): Trust | undefined {
  for (const path of paths) {
    const trust = read(path);
    if (trust) return trust;
  }
}

function some(trust: Trust | undefined): Trust[] {
  return trust ? [trust] : [];
}

function fromFile(path: string): Trust | undefined {
  const read = readText(path);
  const certificates = typeof read === "string" ? certificatesIn(read) : [];
  return certificates.length > 0 ? { certificates, source: path } : undefined;
}

function fromFolder(path: string): Trust | undefined {
  try {
    const files = [...Deno.readDirSync(path)].map(({ name }) => fromFile(`${path}/${name}`));
    const certificates = files.flatMap((file) => file?.certificates ?? []);
    return certificates.length > 0 ? { certificates, source: path } : undefined;
  } catch {
    // Most hosts have only one of the folders.
    return undefined;
  }
}

/** What is wrong with a file. */
interface Fault {
  code: string;
  what: string;
}

function readText(path: string): string | Fault {
  try {
    const { isFile, isCharDevice, size } = Deno.statSync(path);
    // A pipe would stop the whole program until somebody writes to it.
    if (!isFile && !isCharDevice) return { code: "NotAFile", what: "is not a file" };
    if (size > LARGEST_FILE) return { code: "TooLarge", what: `has ${size} bytes` };
    return Deno.readTextFileSync(path);
  } catch (error) {
    const { name: code, message } = error instanceof Error ? error : new Error(String(error));
    if (code === "NotFound") return { code, what: "does not exist" };
    if (code === "NotCapable") return { code, what: "flanneld is not permitted to read" };
    return { code, what: `cannot be read (${message})` };
  }
}

function certificatesIn(text: string): string[] {
  return [...text.matchAll(CERTIFICATE)].map(([pem]) => pem);
}

/** Whether a block is Base64 of one ASN.1 sequence and nothing else, by what it begins with. */
function isDer(pem: string): boolean {
  const base64 = pem.replaceAll(/-----[^-]*-----|\s/g, "");
  const [, padding] = /^[A-Za-z0-9+/]{8,}(={0,2})$/.exec(base64) ?? [];
  if (padding === undefined || base64.length % 4 !== 0) return false;
  const bytes = base64.length / 4 * 3 - padding.length;
  const head = Array.from(atob(base64.slice(0, 8)), (character) => character.charCodeAt(0));
  // No certificate is shorter than 128 bytes, and none here longer than 24 bits say.
  const digits = head[1] - 0x80;
  if (head[0] !== 0x30 || digits < 1 || digits > 3) return false;
  const length = head.slice(2, 2 + digits).reduce((sum, byte) => sum * 256 + byte, 0);
  return bytes === 2 + digits + length;
}
