/**
 * The report: what a run found as JSON, and one or two of these as tables in Markdown.
 *
 * @module
 */
import { FAULTS } from "./catalogue.ts";
import type { Fault } from "./fault.ts";
import type { LabOptions } from "./lab.ts";
import type { StepResult } from "./runner.ts";

/** What a run found. */
export interface RunReport {
  /** The command without the program that runs it. */
  command: string;
  date: string;
  seed: number;
  minutes: number;
  options: LabOptions;
  alone: StepResult[];
  mix: StepResult[];
  /** Packets lost outside of all steps. */
  lostBetween: number;
  packetsSent: number;
  /** Changes of leases in etcd's history, and why it has a hole; empty where it has none. */
  leaseChanges: number;
  historyGap: string;
  /** What was left in the kernel after all agents were stopped and cleaned up. */
  leftovers: string[];
}

/** Whether nothing is wrong that must not be. */
export function isClean(report: RunReport): boolean {
  const steps = [...report.alone, ...report.mix];
  return report.lostBetween === 0 && report.leftovers.length === 0 && report.historyGap === "" &&
    steps.every((step) => stepFailures(step).length === 0);
}

/** What a step shows that must not be, in words. */
export function stepFailures(step: StepResult): string[] {
  return [
    ...step.lostUntouched.map((text) => `lost ${text}`),
    ...step.twice.map((text) => `two owners: ${text}`),
    ...step.stale.map((text) => `stale: ${text}`),
    ...step.problems,
  ];
}

/** One line for the terminal. */
export function stepLine(step: StepResult): string {
  const failures = stepFailures(step);
  return [
    `${failures.length === 0 ? "ok  " : "FAIL"} ${step.faults.join(" + ")}`,
    `(${step.details.filter(Boolean).join(" | ")})`,
    `heal ${seconds(step.packets)} / ${seconds(step.control)}`,
    `lost ${step.lostUntouched.length} of ${step.sentUntouched} untouched, ` +
    `${step.lostTouched} touched, gap ${seconds(step.longestGap)}`,
    ...(step.probeDrops > 0 ? [`probes dropped ${step.probeDrops} by themselves`] : []),
    ...(step.backlogDrops > 0 ? [`processors dropped ${step.backlogDrops}`] : []),
    ...(failures.length > 0 && step.leaseEnds.length > 0 ? [`ended: ${step.leaseEnds}`] : []),
    ...(failures.length > 0 ? [failures.slice(0, 6).join("; ")] : []),
  ].join(", ");
}

/** The tables. */
export function markdown(reports: RunReport[]): string {
  const parts = [
    "# Fault injection",
    "",
    ...INTRODUCTION,
    "",
    "The commands and their overall results:",
    "",
    ...table([
      ["command", "packets", "lost between faults", "leases changed", "two owners", "left behind"],
      ...reports.map((report) => [
        `\`${report.command}\``,
        String(report.packetsSent),
        String(report.lostBetween),
        `${report.leaseChanges}${report.historyGap ? " (with a hole)" : ""}`,
        String([...report.alone, ...report.mix].flatMap(({ twice }) => twice).length),
        leftovers(report),
      ]),
    ]),
    "",
    ...BACKENDS.flatMap((backend) => {
      const those = reports.filter(({ options }) => options.backend === backend);
      if (those.length === 0) return [];
      return [`## Alone, ${backend}`, "", ...aloneTable(those), ...those.flatMap(notes), ""];
    }),
    ...reports.filter(({ mix }) => mix.length > 0).flatMap((report) => [
      `## Mix: ${agentName(report)}, ${report.options.backend}, seed ${report.seed}`,
      "",
      ...mixTable(report),
      "",
    ]),
  ];
  return parts.join("\n").trimEnd();
}

const BACKENDS = ["vxlan", "udp"] as const;

const INTRODUCTION = [
  "Five nodes and three etcd members run in network namespaces of one machine. Each node's container",
  "sends a numbered packet to every other one each 50 ms: 400 packets per second, all accounted for.",
  "The commands below inject the faults; with `--json FILE` they save the figures, from which",
  "`deno task faults report FILE...` generates this page.",
  "",
  "- **heal**: the time from the end of the cause until all pairs work, and until a lease written then",
  "  is in the kernel (or in the tunnel) of all nodes.",
  "- **lost, untouched**: packets lost on pairs that the fault does not touch; must be 0.",
  "- **interruption**: the longest one of a pair that the fault touches, during and after the fault.",
  "- **two owners**: subnets that two nodes had at the same time, by etcd's full history; must be 0.",
  "- **stale**: routes, neighbours, fdb entries and tunnel peers without a lease, once everything has",
  "  settled.",
  "",
  "Nothing restarts an agent that has exited, although a service manager would. If something is still",
  "broken after a minute, all agents are restarted from scratch. Clocks jump by two hours for the agent's",
  "process only, by libfaketime: the machine's own clock must not move, and time namespaces cover only",
  "the monotonic clocks. etcd's clock does not jump, since a Go program asks the kernel for the time and",
  "not the C library. Go flannel's leases last a day, so they are revoked where a lease has to expire.",
  "It has no command that removes what it created, so all of that is left behind.",
];

function aloneTable(reports: RunReport[]): string[] {
  const head = [
    "fault",
    "expected",
    ...reports.flatMap((report) => {
      const who = agentName(report);
      return [
        `heal, ${who}`,
        `lost, untouched`,
        `interruption`,
        `two owners`,
        `stale`,
      ];
    }),
  ];
  const rows = FAULTS.filter(({ name }) => reports.some((report) => stepOf(report, name)))
    .map((fault) => [
      fault.name,
      fault.expectation,
      ...reports.flatMap((report) => cells(report, fault)),
    ]);
  return table([head, ...rows]);
}

function stepOf(report: RunReport, name: string): StepResult | undefined {
  return report.alone.find(({ faults }) => faults[0] === name);
}

function cells(report: RunReport, fault: Fault): string[] {
  const step = stepOf(report, fault.name);
  if (!step) return ["not injected", "-", "-", "-", "-"];
  return [
    heal(step, report),
    String(step.lostUntouched.length),
    step.longestGap > 0 ? seconds(step.longestGap) : "none",
    String(step.twice.length),
    String(step.stale.length),
  ];
}

function heal(step: StepResult, { options }: RunReport): string {
  if (step.packets === undefined) return "not within 60 s";
  // Go flannel's udp backend shows none of its peers.
  if (options.backend === "udp" && options.agent === "go") return seconds(step.packets);
  if (step.control === undefined) return `${seconds(step.packets)}; leases not within 60 s`;
  const failed = step.problems.length > 0 ? "; not recovered, see below" : "";
  return `${seconds(step.packets)}, ${seconds(step.control)}${failed}`;
}

/** What was seen, fault by fault. */
function notes(report: RunReport): string[] {
  const lines = report.alone.flatMap((step) => {
    const seen = step.details.filter((text) => text.includes(";") || !/^(node \d|$)/.test(text));
    const failures = stepFailures(step);
    if (seen.length + failures.length === 0) return [];
    const more = failures.length > 3 ? [`and ${failures.length - 3} more`] : [];
    const text = [...seen, ...failures.slice(0, 3), ...more].map(oneLine).join("; ");
    return [`- ${step.faults[0]}: ${text}`];
  });
  const skipped = report.options.agent === "go"
    ? FAULTS.filter(({ notForGo }) => notForGo).map(({ name, notForGo }) =>
      `- ${name}: not injected: ${notForGo}`
    )
    : [];
  return ["", `Seen with ${agentName(report)}:`, "", ...lines, ...skipped];
}

function mixTable(report: RunReport): string[] {
  return table([
    ["at", "faults", "heal", "lost, untouched", "interruption", "two owners", "stale", "problems"],
    ...report.mix.map((step) => [
      `${((step.began - report.mix[0].began) / 60_000).toFixed(1)} min`,
      step.faults.map((name, index) => {
        const where = step.details[index].split(";")[0];
        return where.startsWith("node") ? `${name} (${where})` : name;
      }).join(" + "),
      heal(step, report).replace(", see below", ""),
      String(step.lostUntouched.length),
      step.longestGap > 0 ? seconds(step.longestGap) : "none",
      String(step.twice.length),
      String(step.stale.length),
      oneLine(step.problems[0] ?? ""),
    ]),
  ]);
}

function leftovers({ leftovers }: RunReport): string {
  return String(leftovers.length);
}

function agentName({ options }: RunReport): string {
  return options.agent === "ours" ? "ours" : "Go flannel";
}

function seconds(value: number | undefined): string {
  if (value === undefined) return "-";
  return `${value.toFixed(value < 10 ? 1 : 0)} s`;
}

function oneLine(text: string): string {
  return text.replace(/[IWE]\d{4} [\d:.]+ +\d+ /g, "").replace(
    /fl-faults-\w+-node(\d)-\w+/g,
    "node $1",
  ).replace(/\s+/g, " ").replaceAll(
    "|",
    "\\|",
  ).slice(0, 220);
}

function table(rows: string[][]): string[] {
  const line = (row: string[]) => `| ${row.join(" | ")} |`;
  return [line(rows[0]), line(rows[0].map(() => "---")), ...rows.slice(1).map(line)];
}
