/**
 * Where hosts keep the certificate authorities that they trust, as far as distributions differ.
 *
 * @module
 */

/** All authorities in one file; the first that is there is the store. */
export const STORE_FILES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/ssl/cert.pem",
];

/** Folders with one file per authority, for hosts without such a file. */
export const STORE_FOLDERS = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
