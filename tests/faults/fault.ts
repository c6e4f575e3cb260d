/**
 * What a fault is. A new one is an object in one of the `*_faults.ts` and needs nothing else.
 *
 * @module
 */
import type { Pair } from "./ledger.ts";
import type { Lab } from "./lab.ts";

/** A kind of fault. */
export interface Fault {
  name: string;
  /** What the agent's documentation promises, for the report. */
  expectation: string;
  /** Why it cannot be made for Go flannel; absent where it can. */
  notForGo?: string;
  /** Whether all agents are its own, so that no other fault goes along. */
  alone?: boolean;
  /** Whether it disturbs etcd itself: one of that kind at a time. */
  etcd?: boolean;
  /** Nodes that it strikes. */
  nodes: number;
  /** Makes one for these nodes, by their index. */
  make(lab: Lab, nodes: number[]): FaultRun;
}

/** One time that a fault is made. */
export interface FaultRun {
  /** Pairs whose packets it may cost. */
  touches(pair: Pair): boolean;
  /** Makes the fault; resolves when it has lasted. @returns what was seen, for the report */
  inject(): Promise<string | void>;
  /** Takes the cause away; absent where the agent has to mend it all by itself. */
  heal?(): Promise<void>;
  /** Puts the lab back as it was once all is well, where that is more than the healing. */
  after?(): Promise<string | void>;
}

/** No pair. */
export const NONE = () => false;
/** All pairs. */
export const ALL = () => true;

/** The pairs with one of these nodes at an end. */
export function pairsOf(...nodes: number[]): (pair: Pair) => boolean {
  return ({ from, to }) => nodes.includes(from) || nodes.includes(to);
}

/** Waits. */
export function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
