/**
 * The lab from its first line to its last.
 *
 * @module
 */
import * as agents from "./agents.ts";
import type { Facts } from "./facts.ts";
import { pod } from "./pod.ts";
import type { Entry } from "./step.ts";
import * as traffic from "./traffic.ts";

/** All steps in order; each may need what the checks of those before have learnt. */
export function* labSteps(facts: Facts): Generator<Entry> {
  yield* agents.before();
  yield* agents.etcd();
  yield* agents.configure(facts);
  yield* agents.startFlanneld("nodea", facts);
  yield* agents.configureDocker("nodea", facts);
  yield* agents.copyBinary();
  yield* agents.startFlanneld("nodeb", facts);
  yield* agents.configureDocker("nodeb", facts);
  yield* traffic.investigate(facts);
  yield* traffic.pings(facts);
  yield* traffic.chat(facts);
  yield* traffic.web(facts);
  yield* pod(facts);
}
