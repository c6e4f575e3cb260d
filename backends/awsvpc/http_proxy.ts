/**
 * Which proxy a request to AWS goes through, by HTTPS_PROXY, HTTP_PROXY and NO_PROXY in either case.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { Cidr, tryParseIp } from "../../base/cidr.ts";
import { TransportError } from "./http_errors.ts";
import type { Environment } from "./http_trust.ts";

/** Where a request is to come to in the end, or a proxy. */
export interface Server {
  protocol: "http:" | "https:";
  /** A name or an address, IPv6 without brackets. */
  host: string;
  port: number;
}

/** A proxy that somebody chose. */
export interface Proxy extends Server {
  /** Value of the header Proxy-Authorization. */
  authorization: string | undefined;
  /** For errors, without user and password: `the proxy 192.0.2.1:3128 (HTTPS_PROXY)`. */
  name: string;
}

const PORTS = { "http:": 80, "https:": 443 };

/** `host:port` as in a URL. */
export function authorityOf({ host, port }: Server): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** As {@linkcode authorityOf}, without the port that the protocol implies. */
export function nameOf(server: Server): string {
  const name = authorityOf(server);
  return server.port === PORTS[server.protocol] ? name.replace(/:\d+$/, "") : name;
}

/** The server that a URL or a request is for. */
export function serverOf(
  { protocol: scheme, hostname, port }: {
    protocol: string;
    hostname: string;
    port?: number | string;
  },
): Server {
  const protocol = scheme === "https:" ? "https:" : "http:";
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return { protocol, host, port: Number(port || PORTS[protocol]) };
}

/**
 * The proxy for requests to a server; undefined where they go straight there.
 *
 * @throws {TransportError} where the variable holds no proxy's URL; its value may hold a password
 * and is not shown
 */
export function proxyFor(server: Server, env: Environment): Proxy | undefined {
  const upper = server.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const [variable, value] = setting(upper, env);
  if (value === "") return undefined;
  const [, except] = setting("NO_PROXY", env);
  if (except.split(/[\s,]+/).some((entry) => fits(entry, server))) return undefined;
  return parseProxy(variable, value);
}

/** A variable in capitals, else in lower case. */
function setting(name: string, env: Environment): [name: string, value: string] {
  const lower = name.toLowerCase();
  const value = env(name)?.trim();
  return value ? [name, value] : [lower, env(lower)?.trim() ?? ""];
}

function parseProxy(variable: string, value: string): Proxy {
  const fault = (what: string) =>
    new TransportError("Proxy", `${variable} ${what}`, "set it to a URL like http://proxy:3128");
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`;
  if (!URL.canParse(full)) throw fault("is not a URL");
  const url = new URL(full);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw fault(`names a proxy of the kind ${url.protocol.slice(0, -1)}, which is not supported`);
  }
  const { username, password } = url;
  if (full.includes("@") && username + password === "") {
    throw fault("has an @ in the wrong place (write special characters of a password as %XX)");
  }
  const credentials = `${decoded(username)}:${decoded(password)}`;
  const server = serverOf(url);
  return {
    ...server,
    name: `the proxy ${nameOf(server)} (${variable})`,
    authorization: credentials === ":"
      ? undefined
      : `Basic ${Buffer.from(credentials).toString("base64")}`,
  };
}

/** A percent sign that begins no escape is meant as itself. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Whether an entry of NO_PROXY is for a server: `*`, a domain with all names below it (`example.com`,
 * `.example.com`, `*.example.com`), an address, or a subnet; each also with `:PORT`.
 */
function fits(entry: string, { host, port }: Server): boolean {
  if (entry === "*") return true;
  const [subject, only] = splitPort(entry.toLowerCase());
  if (subject === "" || only !== undefined && Number(only) !== port) return false;
  const ip = tryParseIp(host);
  if (ip) {
    const wanted = tryParseIp(subject);
    if (wanted) return wanted.family === ip.family && wanted.value === ip.value;
    return subject.includes("/") && subnet(subject)?.containsIp(ip) === true;
  }
  const domain = subject.replace(/^\*?\./, "").replace(/\.$/, "");
  const name = host.toLowerCase().replace(/\.$/, "");
  return domain !== "" && (name === domain || name.endsWith(`.${domain}`));
}

/** A lone IPv6 address has colons, but no port. */
function splitPort(entry: string): [subject: string, port: string | undefined] {
  const [, address, port] = /^\[(.*)\](?::(.*))?$/.exec(entry) ?? [];
  if (address !== undefined) return [address, port];
  const parts = entry.split(":");
  return parts.length === 2 ? [parts[0], parts[1]] : [entry, undefined];
}

function subnet(text: string): Cidr | undefined {
  try {
    return Cidr.parse(text);
  } catch {
    return undefined;
  }
}
