/**
 * The config of the plugin that does the work, made of the network config and the node's lease.
 *
 * @module
 */
import { Cidr } from "../base/cidr.ts";
import { invalid } from "./errors.ts";
import {
  isObject,
  isPluginName,
  type JsonObject,
  type NetConf,
  requirePluginNames,
} from "./netconf.ts";
import type { SubnetEnv } from "./subnet_env.ts";

/** A config for another plugin. */
export type DelegateConf = JsonObject & { type: string; name: string; ipam: JsonObject };

/** Keys that are made here and cannot be asked for. */
const RESERVED = ["name", "ipam"];

/** Plugin that is called where the config names none. */
const DEFAULT_TYPE = "bridge";
const DEFAULT_IPAM = "host-local";

/**
 * Makes the delegate's config, as flannel's plugin does: what `delegate` has stays, what it lacks is
 * taken from the lease.
 *
 * @throws {CniError} code 7 naming the key
 */
export function makeDelegate(netconf: NetConf, env: SubnetEnv): DelegateConf {
  const { delegate, runtimeConfig, cniVersion, name } = netconf;
  for (const key of RESERVED) {
    if (key in delegate) {
      throw invalid(`delegate must not have ${JSON.stringify(key)}: the plugin sets it`);
    }
  }
  const type = delegate.type ?? DEFAULT_TYPE;
  if (!isPluginName(type)) {
    throw invalid(`delegate.type ${JSON.stringify(type)} is not a plugin's name`);
  }
  const ipamType = netconf.ipam.type ?? DEFAULT_IPAM;
  if (!isPluginName(ipamType)) {
    throw invalid(`ipam.type ${JSON.stringify(ipamType)} is not a plugin's name`);
  }
  for (const [key, part] of Object.entries({ delegate, runtimeConfig, ipam: netconf.ipam })) {
    requirePluginNames(part, key);
  }
  for (const [key, name] of [["delegate.type", type], ["ipam.type", ipamType]]) {
    if (name === "flannel") throw invalid(`${key} "flannel" would call this plugin again`);
  }
  return {
    // Where flanneld does not masquerade, the delegate has to.
    ipMasq: !env.ipMasq,
    mtu: env.mtu,
    ...(type === "bridge" ? { isGateway: true } : {}),
    ...delegate,
    ...(runtimeConfig === undefined ? {} : { runtimeConfig }),
    ...(cniVersion === "" ? {} : { cniVersion }),
    type,
    name,
    ipam: makeIpam(netconf.ipam, env),
  };
}

/** The base `ipam` with the node's subnets as ranges, and routes to the overlay after its own. */
function makeIpam(base: JsonObject, { networks, subnets }: SubnetEnv): JsonObject {
  const routes = base.routes ?? [];
  if (!Array.isArray(routes)) {
    throw invalid(`ipam.routes ${JSON.stringify(routes)} is not an array of routes`);
  }
  return {
    ...base,
    type: base.type ?? DEFAULT_IPAM,
    ranges: subnets.map((subnet: Cidr) => [{ subnet: String(subnet) }]),
    routes: [...routes, ...networks.map((network) => ({ dst: String(network) }))],
  };
}

/**
 * The delegate's config for DEL where the one of ADD is lost: what the plugins read of it is there,
 * with or without a lease. They find the container's addresses by its id.
 *
 * @param env undefined where the subnet file cannot be used
 * @throws {CniError} code 7 naming the key
 */
export function rebuildDelegate(netconf: NetConf, env: SubnetEnv | undefined): DelegateConf {
  const subnets = addressesOf(netconf.prevResult);
  return makeDelegate(
    netconf,
    env ?? {
      networks: [],
      // host-local refuses a config without ranges.
      subnets: subnets.length > 0 ? subnets : [Cidr.parse(PLACEHOLDER)],
      mtu: 0,
      // So that the delegate looks for rules of its own.
      ipMasq: false,
    },
  );
}

/** A range that no container has an address of (RFC 5737). */
const PLACEHOLDER = "192.0.2.0/24";

function addressesOf(result: JsonObject | undefined): Cidr[] {
  const ips = Array.isArray(result?.ips) ? result.ips.filter(isObject) : [];
  return ips.flatMap(({ address }) => {
    try {
      return [Cidr.parse(String(address))];
    } catch {
      return [];
    }
  });
}
