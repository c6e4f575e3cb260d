/**
 * The Docker daemon's config file, daemon.json, with the node's subnet and MTU in it.
 *
 * @module
 */
import { Cidr, tryParseIp } from "../base/cidr.ts";
import { faultText, jsonFault } from "../base/json_text.ts";
import { quote } from "../base/json.ts";
import { setMembers } from "./json_edit.ts";

/** What Docker is told of the node's lease. */
export interface DockerNetwork {
  /** Address and length of Docker's bridge: `10.1.40.1/24`. */
  bip: string;
  mtu: number;
  /** Whether Docker masquerades; undefined: leave that as it is. */
  ipMasq: boolean | undefined;
}

/**
 * The file's text with the settings in it; all else stays byte for byte.
 *
 * @param text an empty one counts as an empty object
 * @throws {SyntaxError} for what Docker does not read, with line and column
 * @throws {Error} for a setting with which Docker does not start beside these, or reaches no container
 */
export function mergeDaemonJson(text: string, network: DockerNetwork): string {
  if (text.trim() === "") text = "{\n}\n";
  const former = parse(text);
  refuseContradictions(former, network);
  const { bip, mtu } = network;
  return setMembers(text, { bip, mtu, ...ipMasqMember(former, network) });
}

/**
 * `ip-masq` where it has to be written: Docker masquerades where the file does not say, so that one
 * without the setting is left so.
 */
function ipMasqMember(
  former: Record<string, unknown>,
  { ipMasq }: DockerNetwork,
): Record<string, boolean> {
  const isDefault = ipMasq === true && (former["ip-masq"] ?? true) === true;
  return ipMasq === undefined || isDefault ? {} : { "ip-masq": ipMasq };
}

function parse(text: string): Record<string, unknown> {
  const fault = jsonFault(text);
  if (fault) {
    const advice = fault.isComment
      ? "; Docker does not accept comments in this file: remove it"
      : "";
    throw new SyntaxError(`it is not JSON: ${faultText(fault)}${advice}`);
  }
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SyntaxError("it is not a JSON object");
  }
  return value as Record<string, unknown>;
}

/** @throws {Error} naming the setting, why it cannot stay, and what to do */
function refuseContradictions(former: Record<string, unknown>, { bip }: DockerNetwork): void {
  const bridge = former["bridge"] ?? "";
  if (bridge !== "") {
    throw new Error(
      `its "bridge": ${quote(bridge)} and bip are mutually exclusive, and Docker does not start ` +
        "with both: remove bridge",
    );
  }
  const subnet = Cidr.parse(bip);
  const fixed = former["fixed-cidr"] ?? "";
  if (fixed !== "" && !isInside(subnet, fixed)) {
    throw new Error(
      `its "fixed-cidr": ${quote(fixed)} is not a part of this node's subnet ${subnet}: remove ` +
        "it, or set it to a part of the subnet",
    );
  }
  const gateway = former["default-gateway"] ?? "";
  if (gateway !== "" && !isAddressIn(subnet, gateway)) {
    throw new Error(
      `its "default-gateway": ${quote(gateway)} is not in this node's subnet ${subnet}: remove it`,
    );
  }
}

function isInside(subnet: Cidr, text: unknown): boolean {
  try {
    return typeof text === "string" && subnet.contains(Cidr.parse(text));
  } catch {
    return false;
  }
}

function isAddressIn(subnet: Cidr, text: unknown): boolean {
  const ip = typeof text === "string" ? tryParseIp(text) : undefined;
  return ip !== undefined && subnet.containsIp(ip);
}
