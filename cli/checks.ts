/**
 * Checks of flag values: each returns why a value is refused, undefined where it is good.
 *
 * @module
 */
import { type Family, isLoopback, isUnicast, tryParseIp } from "../base/cidr.ts";
import { parseEndpoint, splitEndpoints } from "../subnet/etcd/endpoint.ts";
import { fileFault } from "./files.ts";
import { compileGoRegExp } from "./go_regexp.ts";

/** An IPv4 or IPv6 address. */
export function checkIP(value: string): string | undefined {
  return tryParseIp(value) ? undefined : "not an IP address";
}

/** An IPv4 address that peers can send to. */
export function checkPublicIPv4(value: string): string | undefined {
  return checkPublic(value, 4);
}

/** An IPv6 address that peers can send to. */
export function checkPublicIPv6(value: string): string | undefined {
  return checkPublic(value, 6);
}

function checkPublic(value: string, family: Family): string | undefined {
  const ip = tryParseIp(value);
  if (ip?.family !== family) return `not an IPv${family} address`;
  if (isLoopback(ip)) return "a loopback address, which peers cannot reach";
  return isUnicast(ip) ? undefined : "not a unicast address";
}

/** What becomes of FORWARD's policy. */
export function checkForwardPolicy(value: string): string | undefined {
  return value === "accept" || value === "keep" ? undefined : "neither accept nor keep";
}

/** A whole number within bounds, both included. */
export function checkRange(min: number, max: number): (value: number) => string | undefined {
  return (value) => value < min || value > max ? `not in the range ${min} to ${max}` : undefined;
}

/** A comma list of etcd's endpoints. */
export function checkEndpoints(value: string): string | undefined {
  const entries = splitEndpoints(value);
  if (entries.length === 0) return "names no endpoint";
  try {
    for (const entry of entries) parseEndpoint(entry, false);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return error.message;
  }
  return undefined;
}

/** A file that exists and can be read. */
export function checkFile(value: string): string | undefined {
  try {
    const file = Deno.openSync(value);
    try {
      return file.statSync().isDirectory ? "a directory, not a file" : undefined;
    } finally {
      // Not by `using`, which the bundler drops where the name is used once.
      file.close();
    }
  } catch (error) {
    return fileFault(error);
  }
}

/** A file that may not be there yet. What else is wrong with it, reading or writing it tells. */
export function checkNoDirectory(value: string): string | undefined {
  try {
    return Deno.statSync(value).isDirectory ? "a directory, not a file" : undefined;
  } catch {
    return undefined;
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
