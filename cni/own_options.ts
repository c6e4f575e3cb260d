/**
 * The keys of a `bridge` config that our own bridge understands, and what they come to.
 *
 * @module
 */
import type { Attachment, AttachmentRoute } from "../dataplane/attachment.ts";
import { Cidr, formatIp } from "../base/cidr.ts";
import type { DelegateConf } from "./delegate.ts";
import { CniError, CODES, invalid } from "./errors.ts";
import { type Invocation, isDeviceName } from "./invocation.ts";
import { isObject, type JsonObject } from "./netconf.ts";
import { familyOf, type IpamResult, type ResultRoute } from "./result.ts";

/** What is asked of our own bridge. */
export interface OwnOptions {
  bridge: string;
  mtu: number;
  isGateway: boolean;
  isDefaultGateway: boolean;
  forceAddress: boolean;
  hairpinMode: boolean;
  promiscMode: boolean;
  ipMasq: boolean;
  mac: string | undefined;
}

const DEFAULT_BRIDGE = "cni0";

/** Keys that are the runtime's, the network's or read elsewhere. */
const OTHER_KEYS = [
  "cniVersion",
  "name",
  "type",
  "ipam",
  "dns",
  "runtimeConfig",
  "capabilities",
  "args",
  "prevResult",
];

const FLAGS = [
  "isGateway",
  "isDefaultGateway",
  "forceAddress",
  "hairpinMode",
  "promiscMode",
  "ipMasq",
] as const;

/**
 * Reads the config of a `bridge` delegate for our own bridge.
 *
 * @throws {CniError} code 2 for a key that only the plugin knows, code 7 for a value that is none
 */
export function parseOwnOptions(conf: DelegateConf): OwnOptions {
  const { bridge = DEFAULT_BRIDGE, mtu } = conf;
  if (typeof bridge !== "string" || !isDeviceName(bridge)) {
    throw invalid(`delegate.bridge ${JSON.stringify(bridge)} is not a device name`);
  }
  if (!Number.isInteger(mtu) || Number(mtu) <= 0) {
    throw invalid(`delegate.mtu ${JSON.stringify(mtu)} is not an MTU`);
  }
  const flags = Object.fromEntries(FLAGS.map((key) => [key, flagOf(conf, key)]));
  const options = flags as Record<(typeof FLAGS)[number], boolean>;
  const known = [...OTHER_KEYS, ...FLAGS, "bridge", "mtu"];
  for (const [key, value] of Object.entries(conf)) {
    if (!known.includes(key) && !isOff(value)) throw unsupported(`delegate.${key}`, value);
  }
  return {
    ...options,
    isGateway: options.isGateway || options.isDefaultGateway,
    bridge,
    mtu: Number(mtu),
    mac: macOf(conf),
  };
}

function flagOf(conf: JsonObject, key: string): boolean {
  const value = conf[key] ?? false;
  if (typeof value !== "boolean") {
    throw invalid(`delegate.${key} ${JSON.stringify(value)} is neither true nor false`);
  }
  return value;
}

/** Asked for by the runtime, or by `args.cni.mac`. */
function macOf({ runtimeConfig, args }: JsonObject): string | undefined {
  const cni = isObject(args) && isObject(args.cni) ? args.cni : {};
  const mac = (isObject(runtimeConfig) ? runtimeConfig.mac : undefined) ?? cni.mac;
  if (mac === undefined || mac === "") return undefined;
  if (typeof mac !== "string" || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) {
    throw invalid(`mac ${JSON.stringify(mac)} is not a MAC address`);
  }
  return mac.toLowerCase();
}

/** A key that asks for nothing. */
function isOff(value: unknown): boolean {
  return value === null || value === false || value === 0 || value === "" ||
    (Array.isArray(value) && value.length === 0);
}

/** A key that needs the real plugin. */
export function unsupported(key: string, value: unknown): CniError {
  return new CniError(
    CODES.unsupportedField,
    `${key} ${JSON.stringify(value)} is not supported by flanneld's own bridge`,
    "install the plugins bridge and host-local in a folder of CNI_PATH, or remove the key",
  );
}

/** The addresses' gateways: each family's first. */
export function gatewaysOf({ ips }: IpamResult): Map<4 | 6, string> {
  const gateways = new Map<4 | 6, string>();
  for (const { address, gateway } of ips) {
    const family = familyOf(address);
    const of = gateway ?? firstAddress(address);
    if (!gateways.has(family)) gateways.set(family, of);
  }
  return gateways;
}

function firstAddress(address: string): string {
  const { family, base } = Cidr.parse(address);
  return formatIp(family, base + 1n);
}

/** The result with the default routes that a default gateway means. */
export function withDefaultRoutes(ipam: IpamResult, options: OwnOptions): IpamResult {
  if (!options.isDefaultGateway) return ipam;
  const defaults: ResultRoute[] = [];
  for (const [family, gw] of gatewaysOf(ipam)) {
    const dst = family === 4 ? "0.0.0.0/0" : "::/0";
    if (!ipam.routes.some((route) => route.dst === dst)) defaults.push({ dst, gw });
  }
  return { ...ipam, routes: [...ipam.routes, ...defaults] };
}

/** What the data plane is to make. */
export function makeAttachment(
  options: OwnOptions,
  ipam: IpamResult,
  { netns, ifname }: Pick<Invocation, "netns" | "ifname">,
  host: string,
): Attachment {
  const { bridge, mtu, mac, hairpinMode, isGateway, forceAddress, promiscMode } = options;
  const gateways = gatewaysOf(ipam);
  const bridgeAddress = ({ address, gateway }: IpamResult["ips"][number]) =>
    `${gateway ?? firstAddress(address)}/${address.split("/")[1]}`;
  const route = ({ dst, gw, priority }: ResultRoute): AttachmentRoute => {
    const via = gw ?? gateways.get(familyOf(dst));
    return {
      dst,
      ...(via === undefined ? {} : { via }),
      ...(priority === undefined ? {} : { metric: priority }),
    };
  };
  return {
    bridge: {
      name: bridge,
      mtu,
      gateways: isGateway ? ipam.ips.map(bridgeAddress) : [],
      forceAddress,
      promiscuous: promiscMode,
    },
    netns,
    ifname,
    host,
    mtu,
    ...(mac === undefined ? {} : { mac }),
    hairpin: hairpinMode,
    addresses: ipam.ips.map(({ address }) => address),
    routes: ipam.routes.map(route),
  };
}
