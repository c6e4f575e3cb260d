/**
 * The config of the plugin that does the work, made of the network config and the node's lease.
 *
 * @module
 */
import type { Cidr } from "../subnet/cidr.ts";
import { invalid } from "./errors.ts";
import type { JsonObject, NetConf } from "./netconf.ts";
import type { SubnetEnv } from "./subnet_env.ts";

/** A config for another plugin. */
export type DelegateConf = JsonObject & { type: string; name: string; ipam: JsonObject };

/** Keys that are made here and cannot be asked for. */
const RESERVED = ["name", "ipam"];

/** Plugin that is called where the config names none. */
const DEFAULT_TYPE = "bridge";

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
  if (typeof type !== "string" || type === "" || type.includes("/")) {
    throw invalid(`delegate.type ${JSON.stringify(type)} is no plugin's name`);
  }
  if (type === "flannel") throw invalid('delegate.type "flannel" would call this plugin again');
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
    throw invalid(`ipam.routes ${JSON.stringify(routes)} is no array of routes`);
  }
  return {
    type: "host-local",
    ...base,
    ranges: subnets.map((subnet: Cidr) => [{ subnet: String(subnet) }]),
    routes: [...routes, ...networks.map((network) => ({ dst: String(network) }))],
  };
}
