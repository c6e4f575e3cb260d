/**
 * Never two owners of a subnet: subnet managers over a real etcd, in random interleavings of what
 * happens to them, against a model of who owns what.
 *
 * etcd's own history is the witness: a watch from the first revision on brings every change of every
 * key in order, and {@linkcode History} checks at each that no two keys there overlap, and that a key
 * changes hands only after it was gone, by an operator's hand or by the end of its etcd lease. In
 * between, no manager whose lease has time left may miss it in etcd, unless it was taken from it by an
 * operator a moment ago; and when all is calm, every manager that runs owns what it believes to own.
 *
 * The actions come from fast-check, a seed for each scenario; when they take effect is etcd's and the
 * scheduler's affair. `CLAIMS_SEED` repeats a run, `CLAIMS_SECONDS` makes it longer.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Etcd } from "../../testbed/etcd.ts";
import { History } from "./history.ts";
import { type Action, ACTIONS, Fleet } from "./fleet.ts";

const SECONDS = Number(Deno.env.get("CLAIMS_SECONDS") ?? 50);
const SEED = Number(Deno.env.get("CLAIMS_SEED") ?? 6);

/** A scenario: what is configured, and what happens to how many managers. */
interface Scenario {
  managers: number;
  families: "ipv4" | "dual" | "ipv6";
  actions: Action[];
}

const SCENARIO: fc.Arbitrary<Scenario> = fc.record({
  managers: fc.integer({ min: 3, max: 10 }),
  families: fc.constantFrom("ipv4", "ipv4", "dual", "ipv6"),
  actions: fc.array(
    fc.record({
      kind: fc.constantFrom(...ACTIONS),
      who: fc.nat(),
      pause: fc.constantFrom(0, 0, 0, 1, 5, 20, 100, 400),
    }),
    { minLength: 40, maxLength: 80, size: "max" },
  ),
});

Deno.test(`managers in random interleavings for ${SECONDS} s: no subnet has two owners`, async () => {
  const until = performance.now() + SECONDS * 1000;
  let [seed, actions, changes] = [SEED, 0, 0];
  // A short election time lets leases be short, too.
  const args = ["--heartbeat-interval=20", "--election-timeout=200"];
  await using etcd = await Etcd.start({ args });
  for (; performance.now() < until; seed++) {
    const [scenario] = fc.sample(SCENARIO, { seed, numRuns: 1 });
    const done: Action[] = [];
    try {
      const prefix = `/claims/${seed}`;
      await using history = await History.follow(etcd.endpoint, prefix);
      await using fleet = await Fleet.start(etcd.endpoint, prefix, history, scenario);
      for (const action of scenario.actions) {
        done.push(action);
        await fleet.act(action);
        history.assertSound();
        await fleet.assertOwners();
      }
      await fleet.settle();
      changes += history.changes;
    } catch (error) {
      const { managers, families } = scenario;
      const what = done.map(({ kind, who }) => `${kind} ${who % managers}`).join(", ");
      const again = `CLAIMS_SEED=${seed} CLAIMS_SECONDS=1`;
      throw new Error(`${again}: ${managers} managers, ${families}: ${what}`, { cause: error });
    }
    actions += done.length;
  }
  const runs = seed - SEED;
  console.log(`CLAIMS_SEED=${SEED}: ${runs} scenarios, ${actions} actions, ${changes} changes`);
  assert(runs > 0 && changes > 0);
});
