/**
 * What the agent is told; `cli/` fills it from flags and environment.
 *
 * @module
 */
import type { StoreOptions } from "../subnet/registry.ts";

/** Which interface carries the traffic between hosts, and under which addresses. */
export interface InterfaceOptions {
  /** Names or IP addresses, first match wins. */
  iface: string[];
  /** Regular expressions over names and addresses, tried after {@link iface}. */
  ifaceRegex: RegExp[];
  /** The interface that the kernel routes this address by. */
  ifaceCanReach?: string;
  /** Addresses announced to the peers, where they are not the interface's own (NAT). */
  publicIP?: string;
  publicIPv6?: string;
}

/** Traffic rules. */
export interface TrafficOptions {
  ipMasq: boolean;
  /** MASQUERADE with `--random-fully` where iptables knows it. */
  randomFully: boolean;
  forwardRules: boolean;
  /** Whether iptables' FORWARD policy is changed to ACCEPT or left alone. */
  forwardPolicy: "accept" | "keep";
  /** Seconds between checks. */
  resyncSeconds: number;
}

/** Everything the agent is told. */
export interface AgentOptions {
  store: StoreOptions;
  interface: InterfaceOptions;
  traffic: TrafficOptions;
  /** `/run/flannel/subnet.env`. */
  subnetFile: string;
  /** Minutes before the end of the lease at which it is renewed, 1 to 1439. */
  renewMarginMinutes: number;
  /** Seconds that a lease lasts in the store; 86,400 as flannel's. */
  leaseSeconds: number;
  /** Bridge with the lease's gateway address for containers; undefined: none. */
  bridge?: string;
  /** A blackhole route for our own subnet, so that packets for absent containers stop here. */
  blackholeRoute: boolean;
  healthz: {
    ip: string;
    /** 0 = off. */
    port: number;
    /** Metrics are answered to other hosts, too, not to this one alone. */
    metricsForAll: boolean;
  };
  /** The library of the data plane. */
  libraryPath: string;
  /** Told of the backend's type once it is known. */
  backendKnown?(type: string): void;
}
