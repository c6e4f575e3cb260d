/**
 * Makes faults, alone or in a seeded mix, and finds after each what it cost.
 *
 * @module
 */
import { waitFor } from "../../testbed/netns.ts";
import { type Fault, type FaultRun, pause } from "./fault.ts";
import type { Lab } from "./lab.ts";
import { LATEST, type Pair } from "./ledger.ts";
import type { Random } from "./random.ts";

/** What a step, one or two faults at once, cost. */
export interface StepResult {
  /** Names of the faults. */
  faults: string[];
  /** What was struck and seen. */
  details: string[];
  /** When it began, in milliseconds since the epoch. */
  began: number;
  /** Seconds from begin to end. */
  took: number;
  /** Seconds after the cause was gone until all pairs worked; undefined where they did not. */
  packets?: number;
  /** The same until a new lease was on all nodes. */
  control?: number;
  /** Packets sent on pairs that the fault did not touch. */
  sentUntouched: number;
  /** Packets of these that were lost: `1→2 at 12.34 s`. */
  lostUntouched: string[];
  lostTouched: number;
  /** Seconds of the longest interruption of a touched pair. */
  longestGap: number;
  /** Subnets that two nodes had. */
  twice: string[];
  /** Kernel entries that no lease calls for, at the end. */
  stale: string[];
  /** What did not come right. */
  problems: string[];
  /** Probes dropped by their own sockets. */
  probeDrops: number;
  /** Packets that the machine's processors dropped before they looked at them: overload. */
  backlogDrops: number;
  /** Leases that were deleted or ended meanwhile: `10.1.34.0-24 at 12.3 s`. */
  leaseEnds: string[];
}

/** Milliseconds within which all must be well again. */
const HEAL_LIMIT = 60_000;
/** Chance that two faults are made at once in a mix. */
const TWO = 0.4;

/** One fault and the nodes it strikes. */
interface Strike {
  fault: Fault;
  nodes: number[];
}

/** Whether a fault can be made here. */
export function applies(fault: Fault, lab: Lab): boolean {
  return lab.isOurs || fault.notForGo === undefined;
}

/** Makes each fault once, with quiet in between. */
export async function alone(
  lab: Lab,
  faults: readonly Fault[],
  random: Random,
  tell: (step: StepResult) => void,
): Promise<void> {
  for (const fault of faults) {
    // Chosen for those that cannot be made, too: the same seed strikes the same nodes.
    const strike = choose(lab, fault, random, []);
    if (applies(fault, lab)) tell(await step(lab, [strike]));
  }
}

/** Makes faults at random, one or two at once, until the time is over. */
export async function mix(
  lab: Lab,
  faults: readonly Fault[],
  random: Random,
  minutes: number,
  tell: (step: StepResult) => void,
): Promise<void> {
  const until = Date.now() + minutes * 60_000;
  let round: Strike[][] = [];
  while (Date.now() < until) {
    if (round.length === 0) round = plan(lab, faults, random);
    const strikes = round.shift()!.filter(({ fault }) => applies(fault, lab));
    if (strikes.length > 0) tell(await step(lab, strikes));
  }
}

/** All faults in another order, some of them in pairs that do not get in each other's way. */
function plan(lab: Lab, faults: readonly Fault[], random: Random): Strike[][] {
  const left = random.shuffle(faults);
  const steps: Strike[][] = [];
  while (left.length > 0) {
    const first = choose(lab, left.shift()!, random, []);
    const partner = random.next() < TWO && !first.fault.alone
      ? left.findIndex(({ alone, etcd }) => !alone && !(etcd && first.fault.etcd))
      : -1;
    const second = partner < 0 ? [] : left.splice(partner, 1);
    steps.push([first, ...second.map((fault) => choose(lab, fault, random, first.nodes))]);
  }
  return steps;
}

function choose(lab: Lab, fault: Fault, random: Random, taken: number[]): Strike {
  const free = lab.nodes.map(({ index }) => index).filter((index) => !taken.includes(index));
  return { fault, nodes: random.shuffle(free).slice(0, fault.nodes) };
}

async function step(lab: Lab, strikes: Strike[]): Promise<StepResult> {
  const began = Date.now();
  const runs = strikes.map(({ fault, nodes }) => fault.make(lab, nodes));
  const result: StepResult = {
    faults: strikes.map(({ fault }) => fault.name),
    details: strikes.map(({ nodes }) => nodes.map((index) => `node ${index + 1}`).join(", ")),
    began,
    took: 0,
    sentUntouched: 0,
    lostUntouched: [],
    lostTouched: 0,
    longestGap: 0,
    twice: [],
    stale: [],
    problems: [],
    probeDrops: 0,
    backlogDrops: 0,
    leaseEnds: [],
  };
  const drops = await lab.probes.drops();
  const backlog = await backlogDrops();
  const conflicts = lab.history.owners.conflicts.length;
  const note = (index: number, text: string | void) => {
    if (text) result.details[index] = [result.details[index], text].filter(Boolean).join("; ");
  };
  await Promise.all(runs.map(async (run, index) => {
    try {
      note(index, await run.inject());
    } catch (error) {
      result.problems.push(`${strikes[index].fault.name} could not be made: ${error}`);
    }
    await run.heal?.();
  }));
  await settle(lab, Date.now(), result);
  for (const [index, run] of runs.entries()) note(index, await run.after?.());
  if (result.problems.length === 0 && runs.some(({ after }) => after)) {
    await settle(lab, Date.now(), {}, result.problems);
  }
  // What a repair by hand costs is not the agent's.
  const ended = Date.now();
  if (result.problems.length > 0) await repair(lab, result);
  await pause(LATEST);
  count(lab, runs, began, ended, result);
  result.twice.push(
    ...lab.history.owners.conflicts.slice(conflicts).map(({ text }) => text),
    ...await lab.sharedSubnets(),
  );
  result.probeDrops = await lab.probes.drops() - drops;
  result.backlogDrops = await backlogDrops() - backlog;
  result.leaseEnds = lab.history.ends(began).map(({ key, seen }) =>
    `${key} at ${((seen - began) / 1000).toFixed(1)} s`
  );
  result.took = (Date.now() - began) / 1000;
  return result;
}

/** Waits until all is well, and enters what took how long and what did not come right. */
async function settle(
  lab: Lab,
  from: number,
  result: Pick<Partial<StepResult>, "packets" | "control" | "stale">,
  problems = (result as StepResult).problems,
): Promise<void> {
  const limit = { limitMs: HEAL_LIMIT, intervalMs: 100 };
  const attempt = async (what: Promise<unknown>) => {
    try {
      await what;
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  };
  const seconds = (ms: number) => Math.max(0, ms - from) / 1000;
  await Promise.all([
    attempt(
      waitFor(() => lastPair(lab, from), { ...limit, what: "packets between all pairs" }).then(
        (at) => result.packets = at - from <= 100 ? 0 : seconds(at),
      ),
    ),
    attempt(lab.canary(from, HEAL_LIMIT).then((at) => result.control = seconds(at))),
    ...lab.nodes.map((node) =>
      attempt(waitFor(async () => {
        const problem = await lab.agentProblem(node);
        if (problem) throw new Error(problem);
        return true;
      }, { ...limit, intervalMs: 250, what: `the agent on node ${node.index + 1}` }))
    ),
  ]);
  await attempt(waitFor(async () => {
    const { missing, extra } = await lab.kernelDifference();
    result.stale = extra;
    if (missing.length + extra.length === 0) return true;
    throw new Error(
      [
        ...missing.map((line) => `lacks ${line}`),
        ...extra.map((line) => `has ${line}`),
      ].slice(0, 3).join("; "),
    );
  }, {
    ...limit,
    limitMs: Math.max(2_000, from + HEAL_LIMIT - Date.now()),
    what: "the kernel's state",
  }));
}

/** When the last of the pairs began to work; undefined while one does not. */
function lastPair(lab: Lab, from: number): number | undefined {
  let last = from;
  for (const pair of lab.ledger.pairs()) {
    const since = lab.ledger.worksSince(pair, from, 10);
    if (since === undefined) return undefined;
    last = Math.max(last, since);
  }
  return last;
}

/** Restarts the agents from scratch if a fault left something broken, so that the next can be injected. */
async function repair(lab: Lab, result: StepResult): Promise<void> {
  await lab.reset();
  const problems: string[] = [];
  await settle(lab, Date.now(), {}, problems);
  result.problems.push(
    problems.length === 0
      ? "recovered after all agents were restarted from scratch"
      : `still broken after all agents were restarted from scratch: ${problems[0]}`,
  );
}

function count(
  lab: Lab,
  runs: FaultRun[],
  began: number,
  ended: number,
  result: StepResult,
): void {
  for (const pair of lab.ledger.pairs()) {
    const { sent, lost, longestGap } = lab.ledger.losses(pair, { since: began, until: ended });
    if (runs.some((run) => run.touches(pair))) {
      result.lostTouched += lost.length;
      result.longestGap = Math.max(result.longestGap, longestGap / 1000);
      continue;
    }
    result.sentUntouched += sent;
    result.lostUntouched.push(
      ...lost.map((time) => `${name(pair)} at ${((time - began) / 1000).toFixed(2)} s`),
    );
  }
}

/** Packets that all processors dropped since the machine's start, as their queues were full. */
async function backlogDrops(): Promise<number> {
  const text = await Deno.readTextFile("/proc/net/softnet_stat");
  return sum(text.trim().split("\n").map((line) => parseInt(line.split(" ")[1], 16)));
}

function name({ from, to }: Pair): string {
  return `${from + 1}→${to + 1}`;
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
