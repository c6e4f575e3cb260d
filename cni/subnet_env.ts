/**
 * What the plugin needs of the subnet file.
 *
 * @module
 */
import { readSubnetFile } from "../agent/subnet_file.ts";
import { Cidr } from "../base/cidr.ts";
import { CniError, CODES } from "./errors.ts";

/** The node's lease. */
export interface SubnetEnv {
  /** The overlay's networks, IPv4 first. */
  networks: Cidr[];
  /** The node's subnets, IPv4 first: one or two. */
  subnets: Cidr[];
  /** Bytes of the largest packet. */
  mtu: number;
  /** Whether flanneld masquerades what leaves the overlay. */
  ipMasq: boolean;
}

/**
 * Reads the subnet file.
 *
 * @throws {CniError} code 11 where it is not there: flanneld may write it any time; code 7 where it
 * lacks something
 */
export function loadSubnetEnv(path: string): SubnetEnv {
  let values: ReadonlyMap<string, string> | undefined;
  try {
    values = readSubnetFile(path);
  } catch (error) {
    throw new CniError(CODES.io, `cannot read the subnet file ${path}: ${reason(error)}`);
  }
  if (values === undefined) {
    throw new CniError(
      CODES.tryAgainLater,
      `open ${path}: no such file or directory: flanneld has no lease on this node yet`,
      "check that flanneld runs, and see its log",
    );
  }
  return parseSubnetEnv(values, path);
}

/**
 * Checks the file's values.
 *
 * @throws {CniError} code 7 with the file and the keys
 */
export function parseSubnetEnv(values: ReadonlyMap<string, string>, path: string): SubnetEnv {
  const networks = [
    ...cidrs(values, "FLANNEL_NETWORK", path),
    ...cidrs(values, "FLANNEL_IPV6_NETWORK", path),
  ];
  const subnets = [
    ...cidrs(values, "FLANNEL_SUBNET", path).slice(0, 1),
    ...cidrs(values, "FLANNEL_IPV6_SUBNET", path).slice(0, 1),
  ];
  const [mtu, ipMasq] = [values.get("FLANNEL_MTU"), values.get("FLANNEL_IPMASQ")];
  const missing = [
    ...(networks.length === 0 ? ["FLANNEL_NETWORK or FLANNEL_IPV6_NETWORK"] : []),
    ...(subnets.length === 0 ? ["FLANNEL_SUBNET or FLANNEL_IPV6_SUBNET"] : []),
    ...(mtu === undefined ? ["FLANNEL_MTU"] : []),
    ...(ipMasq === undefined ? ["FLANNEL_IPMASQ"] : []),
  ];
  if (missing.length > 0) {
    throw new CniError(CODES.invalidConfig, `${path} is missing ${missing.join(", ")}`);
  }
  if (!/^[1-9]\d{0,8}$/.test(mtu!)) {
    throw new CniError(
      CODES.invalidConfig,
      `${path}: FLANNEL_MTU ${JSON.stringify(mtu)} is not an MTU`,
    );
  }
  return { networks, subnets, mtu: Number(mtu), ipMasq: ipMasq === "true" };
}

/** The subnets of a comma list, each once. */
function cidrs(values: ReadonlyMap<string, string>, key: string, path: string): Cidr[] {
  const text = values.get(key);
  if (!text) return [];
  try {
    const all = text.split(",").map((part) => Cidr.parse(part));
    return all.filter((cidr, index) => all.findIndex((other) => other.equals(cidr)) === index);
  } catch (error) {
    throw new CniError(CODES.invalidConfig, `${path}: ${key}: ${reason(error)}`);
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
