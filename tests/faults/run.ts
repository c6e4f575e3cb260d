/**
 * One run of the harness from begin to end.
 *
 * @module
 */
import type { Fault } from "./fault.ts";
import { Lab, type LabOptions } from "./lab.ts";
import { LATEST } from "./ledger.ts";
import { Random } from "./random.ts";
import type { RunReport } from "./report.ts";
import { alone, mix, type StepResult } from "./runner.ts";

/** What a run is told. */
export interface RunOptions extends LabOptions {
  command: string;
  seed: number;
  /** Minutes of the mix; 0 for none. */
  minutes: number;
  /** Faults that are made alone, in this order. */
  alone: readonly Fault[];
  /** Faults that the mix is made of. */
  mix: readonly Fault[];
  /** Told of the lab, which a signal's handler has to dispose of. */
  made?: (lab: AsyncDisposable) => void;
}

/** Makes the lab, the faults and the report, and takes all away. */
export async function runFaults(
  options: RunOptions,
  tell: (step: StepResult) => void = () => {},
): Promise<RunReport> {
  const { agent, backend, ttl, outage, nodes, seed, minutes } = options;
  await using lab = await Lab.create({ agent, backend, ttl, outage, nodes });
  options.made?.(lab);
  const began = Date.now();
  const report: RunReport = {
    command: options.command,
    date: new Date(began).toISOString(),
    seed,
    minutes,
    options: lab.options,
    alone: [],
    mix: [],
    lostBetween: 0,
    packetsSent: 0,
    leaseChanges: 0,
    historyGap: "",
    leftovers: [],
  };
  const enter = (list: StepResult[]) => (step: StepResult) => {
    list.push(step);
    tell(step);
  };
  await alone(lab, options.alone, new Random(seed), enter(report.alone));
  // The mix outlasts no outage of ten minutes.
  lab.options.outage = Math.min(outage, 20);
  await mix(lab, options.mix, new Random(seed), minutes, enter(report.mix));
  report.options = { ...lab.options, outage };
  countAll(lab, began, report);
  await lab.history.reach(await lab.revision() - 1).catch(() => {});
  report.leaseChanges = lab.history.events.length;
  report.historyGap = lab.history.gap;
  report.leftovers = await lab.cleanUp();
  return report;
}

/** All packets sent, and those lost while there was no fault. */
function countAll(lab: Lab, began: number, report: RunReport): void {
  const span = { since: began, until: Date.now() - LATEST };
  const steps = [...report.alone, ...report.mix].map(({ began, took }) => ({
    since: began,
    until: began + took * 1000,
  }));
  for (const pair of lab.ledger.pairs()) {
    const { sent, lost } = lab.ledger.losses(pair, span);
    report.packetsSent += sent;
    report.lostBetween += lost.filter((time) =>
      !steps.some(({ since, until }) => time >= since && time <= until)
    ).length;
  }
}
