/**
 * etcd as the store of leases.
 *
 * @module
 */
import type { StoreOptions } from "../registry.ts";
import type { ManagerOptions, StoreAccess, SubnetManager } from "../types.ts";
import { EtcdStoreAccess } from "./access.ts";
import { EtcdSubnetManager } from "./manager.ts";

/** See {@linkcode StoreModule}. */
export function createManager(store: StoreOptions, options: ManagerOptions): SubnetManager {
  return new EtcdSubnetManager({ ...store, ...options });
}

/** See {@linkcode StoreModule}. */
export function openStore(store: StoreOptions): StoreAccess {
  return new EtcdStoreAccess(store);
}
