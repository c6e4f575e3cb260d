/**
 * Checks of flag values: each returns why a value is refused, undefined where it is good.
 *
 * @module
 */
import { compileGoRegExp } from "./go_regexp.ts";

/** The four bytes of a dotted-quad address; undefined where it is none. */
function parseIPv4(text: string): number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  // No leading zeros: some readers take those as octal.
  const bytes = parts.map((part) => /^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256);
  return bytes.every((byte) => byte < 256) ? bytes : undefined;
}

/** The canonical form (RFC 5952) of an IPv6 address without zone; undefined where it is none. */
function canonicalIPv6(text: string): string | undefined {
  if (!/^[0-9a-fA-F:.]+$/.test(text) || !text.includes(":")) return undefined;
  return URL.parse(`http://[${text}]/`)?.hostname.slice(1, -1);
}

/** An IPv4 or IPv6 address. */
export function checkIP(value: string): string | undefined {
  return parseIPv4(value) || canonicalIPv6(value) ? undefined : "not an IP address";
}

/** An IPv4 address that peers can send to. */
export function checkPublicIPv4(value: string): string | undefined {
  const bytes = parseIPv4(value);
  if (!bytes) return "not an IPv4 address";
  const [first] = bytes;
  if (first === 127) return "a loopback address, which peers cannot reach";
  return first === 0 || first >= 224 ? "not a unicast address" : undefined;
}

/** An IPv6 address that peers can send to. */
export function checkPublicIPv6(value: string): string | undefined {
  const address = canonicalIPv6(value);
  if (!address) return "not an IPv6 address";
  if (address === "::1") return "a loopback address, which peers cannot reach";
  return address === "::" || address.startsWith("ff") || address.startsWith("::ffff:")
    ? "not a unicast address"
    : undefined;
}

/** A whole number within bounds, both included. */
export function checkRange(min: number, max: number): (value: number) => string | undefined {
  return (value) => value < min || value > max ? `not in the range ${min} to ${max}` : undefined;
}

/** Comma-separated `http://` or `https://` URLs of a host and a port. */
export function checkEndpoints(value: string): string | undefined {
  for (const endpoint of splitEndpoints(value)) {
    const url = URL.parse(endpoint);
    if (!url || !/^https?:\/\//i.test(endpoint)) {
      return `${JSON.stringify(endpoint)} is not an http:// or https:// URL`;
    }
    if (url.username || url.password) return "user and password belong in flags of their own";
    if (url.pathname !== "/" || url.search || url.hash) {
      return `${JSON.stringify(endpoint)} has more than a host and a port`;
    }
  }
  return undefined;
}

/** The entries of a comma list, without blanks around them and slashes behind. */
export function splitEndpoints(value: string): string[] {
  return value.split(",").map((endpoint) => endpoint.trim().replace(/\/+$/, ""));
}

/** A file that exists and can be read. */
export function checkFile(value: string): string | undefined {
  try {
    using file = Deno.openSync(value);
    return file.statSync().isDirectory ? "a directory, not a file" : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "no such file";
    if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
    return error instanceof Error ? error.message : String(error);
  }
}

/** A name that the kernel takes for a network device (`dev_valid_name`). */
export function checkInterfaceName(value: string): string | undefined {
  if (new TextEncoder().encode(value).length > 15) return "longer than 15 bytes";
  return value === "." || value === ".." || /[\s/:]/.test(value)
    ? "not a name for a network device"
    : undefined;
}

/** Regular expressions in Go's syntax. */
export function checkRegExp(values: string[]): string | undefined {
  for (const value of values) {
    try {
      compileGoRegExp(value);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
  return undefined;
}
