/**
 * What the lab's user learns on the way and needs later.
 *
 * @module
 */
import { type BackendName, EC2_MTU, type NodeName } from "./place.ts";

/** What is known of a node. */
export interface NodeFacts {
  /** Leased subnet, `10.1.40.0/24`. */
  subnet: string;
  /** Address of the container that was started last. */
  container: string;
}

/** The lab's VPC, as one sees it in the AWS console. */
export interface VpcView {
  /** Id of the network interface that each node's address is on. */
  readonly enis: Record<NodeName, string>;
  /** Id of the route table. */
  readonly tableId: string;
  /** The route table, a line a route. */
  table(): Promise<string>;
}

/** What is known of the lab. */
export interface Facts {
  backend: BackendName;
  nodea: NodeFacts;
  nodeb: NodeFacts;
  /** Address of the pod on nodea. */
  pod: string;
  /** With aws-vpc. */
  vpc?: VpcView;
}

/** The overlay's address space, and its config in etcd. */
export const NETWORK = "10.1.0.0/16";

/** Where the config is. */
export const CONFIG_KEY = "/coreos.com/network/config";

/** Below which key the leases are. */
export const SUBNETS_KEY = "/coreos.com/network/subnets";

/** What is known before the first step. */
export function noFacts(backend: BackendName, vpc?: VpcView): Facts {
  const unknown = { subnet: "", container: "" };
  return { backend, nodea: { ...unknown }, nodeb: { ...unknown }, pod: "", vpc };
}

/** The network config as the user types it. */
export function configText(backend: BackendName): string {
  return `{"Network":"${NETWORK}", "Backend": {"Type": "${backend}"}}`;
}

/** Bytes that containers' interfaces carry. */
export function overlayMtu(backend: BackendName): number {
  return EC2_MTU - { "aws-vpc": 0, vxlan: 50, udp: 28 }[backend];
}

/** Docker's address on a node: the first of the lease. */
export function gateway(facts: Facts, node: NodeName): string {
  return facts[node].subnet.replace(/0\/\d+$/, "1");
}

/** The same with the subnet's length. */
export function bridgeAddress(facts: Facts, node: NodeName): string {
  return `${gateway(facts, node)}/24`;
}
