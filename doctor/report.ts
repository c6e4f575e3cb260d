/**
 * What the doctor prints: a line a finding with the remedy below it, or JSON.
 *
 * @module
 */
import type { Verdict } from "../backends/finding.ts";
import { printable } from "../base/printable.ts";
import type { Entry } from "./check.ts";

/** As `flanneld doctor --json` prints it. The shape is stable: fields may be added, none go. */
export interface DoctorReport {
  /** How many findings have which verdict. */
  summary: Record<Verdict, number>;
  findings: {
    verdict: Verdict;
    /** What it is about, by a name that does not change: `etcd`, `peers`. */
    area: string;
    /** What was looked at: `UDP port 8472`. */
    check: string;
    /** What was found. */
    detail: string;
    /** What to do about it; null where nothing is to be done or known. */
    fix: string | null;
  }[];
}

/** The report of all findings. */
export function reportOf(entries: readonly Entry[]): DoctorReport {
  const summary = { pass: 0, warn: 0, fail: 0 };
  for (const { verdict } of entries) summary[verdict]++;
  const findings = entries.map(({ verdict, area, check, detail, fix }) => ({
    ...{ verdict, area, check, detail },
    fix: fix ?? null,
  }));
  return { summary, findings };
}

/**
 * Prints findings as they come, or as JSON at the end.
 *
 * @returns the exit status: 1 where something failed
 */
export async function print(entries: AsyncIterable<Entry>, json: boolean): Promise<number> {
  const all: Entry[] = [];
  for await (const entry of entries) {
    all.push(entry);
    if (!json) console.log(text(entry));
  }
  const report = reportOf(all);
  const { pass, warn, fail } = report.summary;
  if (json) console.log(JSON.stringify(report, null, 2));
  else {console.log(
      `${pass} passed, ${warn} ${warn === 1 ? "warning" : "warnings"}, ${fail} failed`,
    );}
  return fail > 0 ? 1 : 0;
}

/** Names of devices and programs are in it, which may have anything in them. */
function text({ verdict, check, detail, fix }: Entry): string {
  const line = printable(`${verdict}  ${check}: ${detail}`);
  return fix === undefined ? line : `${line}\n      fix: ${printable(fix)}`;
}
