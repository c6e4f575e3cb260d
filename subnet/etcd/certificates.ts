/**
 * The PEM files of the flags: read, and checked so far that a wrong one is named. TLS itself passes
 * over a key that it cannot use, and the server then asks for a certificate that was given.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, X509Certificate } from "node:crypto";
import type { EtcdAccess } from "./channel.ts";

/** A file that cannot be used; the message names it, its flag, the reason and what to do. */
export class CertificateFileError extends Error {
  override name = "CertificateFileError";
}

/** What the flags name, for messages. */
const FILES = {
  cafile: { flag: "--etcd-cafile", what: "certificate authority" },
  certfile: { flag: "--etcd-certfile", what: "client certificate" },
  keyfile: { flag: "--etcd-keyfile", what: "client key" },
} as const;

type FileKey = keyof typeof FILES;

const CERTIFICATE = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/;
const PRIVATE_KEY = /-----BEGIN (?:[A-Z0-9]+ )?PRIVATE KEY-----/;
const ENCRYPTED_KEY = /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m;

/**
 * The certificates for TLS, read for each connection, so that renewed ones are used.
 *
 * @throws {CertificateFileError}
 */
export function readCertificates({ cafile, certfile, keyfile }: EtcdAccess) {
  const authority = cafile ? readCertificate("cafile", cafile) : undefined;
  const certChain = certfile ? readCertificate("certfile", certfile) : undefined;
  const privateKey = keyfile ? readKey(keyfile) : undefined;
  if (certfile && certChain && keyfile && privateKey) {
    requirePair(certfile, certChain, keyfile, privateKey);
  }
  return {
    // None: those that the runtime trusts. gRPC takes that; etcd3's type leaves it out.
    rootCertificate: authority as Buffer,
    privateKey,
    certChain,
  };
}

function readCertificate(key: "cafile" | "certfile", path: string): Buffer {
  const pem = read(key, path);
  const text = pem.toString("latin1");
  if (!CERTIFICATE.test(text)) {
    throw unusable(
      key,
      path,
      `holds no certificate in PEM format${insteadOfCertificate(key, pem)}`,
    );
  }
  try {
    new X509Certificate(pem);
  } catch {
    throw unusable(key, path, "holds a damaged certificate; replace it");
  }
  return pem;
}

/** What a file without a PEM certificate holds, where that can be told. */
function insteadOfCertificate(key: FileKey, content: Buffer): string {
  if (PRIVATE_KEY.test(content.toString("latin1"))) {
    return key === "certfile"
      ? " but a key: are --etcd-certfile and --etcd-keyfile swapped?"
      : " but a key";
  }
  return isDer(content) ? ": convert it with 'openssl x509 -inform der'" : "";
}

/** Whether a file is one SEQUENCE of DER, as keys and certificates are: its length says so. */
function isDer(content: Buffer): boolean {
  if (content[0] !== 0x30 || content.length < 2) return false;
  const first = content[1];
  const bytes = first < 0x80 ? 0 : first & 0x7f;
  if (bytes > 4 || content.length < 2 + bytes) return false;
  const length = bytes === 0 ? first : content.readUIntBE(2, bytes);
  return content.length === 2 + bytes + length;
}

function readKey(path: string): Buffer {
  const pem = read("keyfile", path);
  const text = pem.toString("latin1");
  if (ENCRYPTED_KEY.test(text)) {
    throw unusable(
      "keyfile",
      path,
      "is encrypted, which flanneld does not support: decrypt it with " +
        `'openssl pkey -in ${path} -out NEW_FILE'`,
    );
  }
  if (!PRIVATE_KEY.test(text)) {
    const instead = CERTIFICATE.test(text)
      ? " but a certificate: are --etcd-certfile and --etcd-keyfile swapped?"
      : isDer(pem)
      ? `: convert it with 'openssl pkey -inform der -in ${path} -out NEW_FILE'`
      : "";
    throw unusable("keyfile", path, `holds no private key in PEM format${instead}`);
  }
  return pem;
}

function requirePair(certfile: string, certificate: Buffer, keyfile: string, key: Buffer): void {
  let pair = true;
  try {
    pair = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw unusable("keyfile", keyfile, `holds a key that cannot be used: ${reason}`);
  }
  if (!pair) {
    throw unusable("keyfile", keyfile, `does not belong to the certificate ${certfile}`);
  }
}

function read(key: FileKey, path: string): Buffer {
  try {
    return Buffer.from(Deno.readFileSync(path));
  } catch (error) {
    const { flag, what } = FILES[key];
    throw new CertificateFileError(`cannot read the ${what} ${path} (${flag}): ${reasonOf(error)}`);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "no such file";
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  return error instanceof Error ? error.message : String(error);
}

function unusable(key: FileKey, path: string, reason: string): CertificateFileError {
  const { flag, what } = FILES[key];
  return new CertificateFileError(`the ${what} ${path} (${flag}) ${reason}`);
}

/** What may be wrong with a client certificate that a server has refused: ` (it expired on …)`. */
export function certificateDates(path: string, now = Date.now()): string {
  try {
    const { validFrom, validTo } = new X509Certificate(Deno.readFileSync(path));
    if (Date.parse(validTo) < now) return `, which expired on ${validTo}`;
    if (Date.parse(validFrom) > now) return `, which is not valid before ${validFrom}`;
  } catch {
    // Gone or replaced meanwhile.
  }
  return "";
}
