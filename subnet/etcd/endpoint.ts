/**
 * The endpoints of etcd as people write them, for Go's client too: without a scheme or a port, with
 * letters of either case, blanks and a comma too many.
 *
 * @module
 */
import { tryParseIp } from "../../base/cidr.ts";

/** etcd's port for clients, where an endpoint names none. */
const DEFAULT_PORT = "2379";

/** The entries of a comma list, without blanks around them and slashes behind; empty ones not. */
export function splitEndpoints(value: string): string[] {
  const entries = value.split(",").map((entry) => entry.trim().replace(/([^:/])\/+$/, "$1"));
  return [...new Set(entries.filter((entry) => entry !== ""))];
}

/**
 * An endpoint with scheme and port: `http://172.31.28.198:2379`.
 *
 * @param tls whether one without a scheme is `https://`
 * @throws {SyntaxError} that says what is wrong with it; never with a password
 */
export function parseEndpoint(entry: string, tls: boolean): string {
  const [, scheme = tls ? "https" : "http", rest] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(
    entry,
  )!;
  const shown = JSON.stringify(entry.replace(/^((?:[a-z][a-z0-9+.-]*:\/\/)?).*@/is, "$1***@"));
  // An IPv6 address without brackets can have no port.
  const authority = tryParseIp(rest)?.family === 6 ? `[${rest}]` : rest;
  const url = /^https?$/i.test(scheme) ? URL.parse(`${scheme}://${authority}`) : null;
  if (!url || url.hostname === "" || /^https?:/i.test(rest) || /\s/.test(rest)) {
    throw new SyntaxError(`${shown} is not an http:// or https:// URL`);
  }
  if (url.username || url.password) {
    throw new SyntaxError("user and password belong in flags of their own");
  }
  if (url.pathname !== "/" || url.search || url.hash) {
    throw new SyntaxError(`${shown} has more than a host and a port`);
  }
  // Parsing drops a port that is the scheme's own, which is not etcd's.
  const port = /:0*(\d+)$/.exec(authority.replace(/^\[[^\]]*\]/, ""))?.[1] ?? DEFAULT_PORT;
  if (port === "0") throw new SyntaxError(`${shown} has no port that can be connected to`);
  return `${url.protocol}//${url.hostname}:${port}`;
}
