/**
 * Logs what keeps packets from their way, once while it lasts, and when it is over.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { type Coverage, missingPeers, type RoutingProblem, routingProblems } from "./coverage.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/**
 * Milliseconds for which a peer may be without a route before that counts: its node sets the route a
 * moment after it has the lease, in one table after the other.
 */
const GRACE = 15_000;
/**
 * The same after the node's VPC subnet was given another table: the other nodes there fill that one
 * after their next look, which is 5 minutes away or somewhat more.
 */
const MOVE_GRACE = 360_000;

/** See the module. */
export class RoutingWatch {
  readonly #reported = new Map<string, RoutingProblem>();
  #isFirst = true;
  /** From when on a peer counts that is without a route, by its subnet. */
  #countsFrom = new Map<string, number>();
  #followedId: string | undefined;

  /**
   * Takes what was read.
   *
   * @param now milliseconds of a clock that never goes back
   * @returns whether the node should look again soon: at the first time only, when each peer has just
   *   been seen for the first time
   */
  take(coverage: Coverage, now: number): boolean {
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    const settled = this.#settle(coverage, now);
    const problems = routingProblems({ ...coverage, peers: settled });
    for (const problem of problems) {
      if (this.#reported.has(problem.key)) continue;
      log.warn("{detail}; {fix}", { detail: problem.detail, fix: problem.fix });
    }
    const keys = new Set(problems.map(({ key }) => key));
    const subjects = new Set(problems.map(({ subject }) => subject));
    for (const [key, { subject }] of this.#reported) {
      if (keys.has(key)) continue;
      this.#reported.delete(key);
      // It may have changed rather than ended, which was reported just now.
      if (!subjects.has(subject)) log.info("Recovered: {subject}", { subject });
    }
    for (const problem of problems) this.#reported.set(problem.key, problem);
    return isFirst && routingProblems(coverage).length > problems.length;
  }

  /** The peers that have a route, or have been without one for a while. */
  #settle(coverage: Coverage, now: number): Coverage["peers"] {
    const id = coverage.followed?.id;
    const hasMoved = this.#followedId !== undefined && this.#followedId !== id;
    this.#followedId = id;
    const from = now + (hasMoved ? MOVE_GRACE : GRACE);
    const missing = missingPeers(coverage).map(String);
    this.#countsFrom = new Map(
      missing.map((peer) => [peer, hasMoved ? from : this.#countsFrom.get(peer) ?? from]),
    );
    return coverage.peers.filter((peer) => (this.#countsFrom.get(`${peer}`) ?? 0) <= now);
  }
}
