/**
 * Certificates of an authority that a test makes for itself.
 *
 * @module
 */
import { isIP } from "node:net";
import { run } from "./netns.ts";

/** Paths of PEM files. */
export interface TlsFiles {
  ca: string;
  cert: string;
  key: string;
}

/** Makes a self-signed authority, valid for a day: `NAME.pem` and `NAME.key` in `folder`. */
export async function certificateAuthority(folder: string, name: string): Promise<TlsFiles> {
  const cert = `${folder}/${name}.pem`;
  const key = `${folder}/${name}.key`;
  await run("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
    ...["-days", "1", "-subj", `/CN=${name}`, "-keyout", key, "-out", cert],
  ]);
  return { ca: cert, cert, key };
}

/**
 * Makes a certificate for clients, or for a server at `hosts` (names or addresses), that `authority`
 * signs.
 *
 * @param options.days from now to its end; below 0, it has ended
 */
export async function certificate(
  folder: string,
  name: string,
  authority: TlsFiles,
  hosts: string[] = [],
  { days = 1 } = {},
): Promise<TlsFiles> {
  const cert = `${folder}/${name}.pem`;
  const key = `${folder}/${name}.key`;
  const request = `${folder}/${name}.csr`;
  const extensions = `${folder}/${name}.ext`;
  // Without a common name: etcd takes one for a user's name, before the password.
  await run("openssl", [
    ...["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
    ...["-subj", `/O=${name}`, "-keyout", key, "-out", request],
  ]);
  const alternatives = hosts.map((host) => `${isIP(host) ? "IP" : "DNS"}:${host}`).join(",");
  const names = alternatives === "" ? "" : `subjectAltName=${alternatives}\n`;
  await Deno.writeTextFile(extensions, `${names}extendedKeyUsage=serverAuth,clientAuth\n`);
  await run("openssl", [
    ...["x509", "-req", "-in", request, "-CA", authority.cert, "-CAkey", authority.key],
    ...["-CAcreateserial", "-days", `${days}`, "-extfile", extensions, "-out", cert],
  ]);
  return { ca: authority.cert, cert, key };
}
