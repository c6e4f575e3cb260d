/**
 * The stores of leases by their kind. A new one is a folder here and a line in {@linkcode STORES}; each
 * is imported only when it is asked for.
 *
 * @module
 */
import type { EtcdOptions } from "./etcd/options.ts";
import type { ManagerOptions, StoreAccess, SubnetManager } from "./types.ts";

/** Which store, and how to talk to it. */
export type StoreOptions = { kind: "etcd" } & EtcdOptions;

/** What a store's `mod.ts` exports. */
export interface StoreModule {
  /** The agent's view. */
  createManager(store: StoreOptions, options: ManagerOptions): SubnetManager;
  /** The sub-commands' view. */
  openStore(store: StoreOptions): StoreAccess;
}

const STORES: Record<StoreOptions["kind"], () => Promise<StoreModule>> = {
  etcd: () => import("./etcd/mod.ts"),
};

/** The subnet manager of a store. */
export async function createManager(
  store: StoreOptions,
  options: ManagerOptions,
): Promise<SubnetManager> {
  return (await STORES[store.kind]()).createManager(store, options);
}

/** A store for one command. */
export async function openStore(store: StoreOptions): Promise<StoreAccess> {
  return (await STORES[store.kind]()).openStore(store);
}
