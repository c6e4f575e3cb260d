/**
 * flanneld's parts for use as a library: leases over etcd, the network config, the agent itself.
 *
 * @module
 */
export { runAgent } from "./agent/run.ts";
export { UsageError } from "./agent/errors.ts";
export type { AgentOptions, InterfaceOptions, TrafficOptions } from "./agent/options.ts";
export { VERSION } from "./agent/version.ts";
export { DataPlane } from "./dataplane/mod.ts";
export type * from "./dataplane/state.ts";
export { Cidr } from "./base/cidr.ts";
export { ConfigError, type NetworkConfig, parseNetworkConfig } from "./subnet/config.ts";
export type { EtcdOptions } from "./subnet/etcd/options.ts";
export { EtcdSubnetManager } from "./subnet/etcd/manager.ts";
export type * from "./subnet/types.ts";
