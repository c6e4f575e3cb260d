/**
 * All faults there are.
 *
 * @module
 */
import { AGENT_FAULTS } from "./agent_faults.ts";
import { ETCD_FAULTS } from "./etcd_faults.ts";
import type { Fault } from "./fault.ts";
import { LEASE_FAULTS } from "./lease_faults.ts";
import { NODE_FAULTS } from "./node_faults.ts";

/** In the order in which they are made alone. */
export const FAULTS: readonly Fault[] = [
  ...ETCD_FAULTS,
  ...AGENT_FAULTS,
  ...NODE_FAULTS,
  ...LEASE_FAULTS,
];
