/**
 * What the lab's user does, step by step, and how it is done.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Machine } from "../machine.ts";
import { waitFor } from "../netns.ts";
import type { LabNode, NodeName } from "./place.ts";

/** A part of the lab begins. */
export interface Chapter {
  chapter: string;
}

interface At {
  on: NodeName;
  /** One terminal of that node; the first where absent. */
  terminal?: string;
  /** What has to be true of what was printed. */
  check?: (printed: string) => unknown;
  /** Exit status of what ends here; 0 where absent. */
  status?: number;
  /** Lines to show of a long output; all where absent. */
  show?: RegExp;
}

/** A command that runs to its end. */
export interface Command extends At {
  command: string;
  /** What it shows comes about only after a while: it is typed again until its check holds. */
  again?: true;
}

/** A command that goes on running in its terminal. */
export interface Running extends At {
  running: string;
  /** What it prints when it is ready, or what does not fail then. */
  ready: RegExp | ((machine: Machine) => Promise<unknown>);
}

/** Keys for what runs in a terminal. */
export interface Keys extends At {
  keys: string;
  /** How they are written down. */
  shown: string;
  /** What is printed upon it; absent: the program ends. */
  until?: RegExp;
}

/** Something to look at elsewhere: the AWS console, say. */
export interface Look {
  look: string;
  see: () => Promise<string>;
  check?: (seen: string) => unknown;
}

export type Step = Command | Running | Keys | Look;
export type Entry = Chapter | Step;

/** A step as it was done. */
export interface Done {
  /** Undefined for a {@linkcode Look}. */
  on?: NodeName;
  /** `ubuntu@nodea:~$`; empty where no shell reads. */
  prompt: string;
  typed: string;
  printed: string;
  terminal: string;
}

/** A check that what was printed has all of these. */
export function matches(...patterns: RegExp[]): (printed: string) => void {
  return (printed) => patterns.forEach((pattern) => assert.match(printed, pattern));
}

/** A check that nothing but this was printed. */
export function equals(text: string): (printed: string) => void {
  return (printed) => assert.equal(printed, text);
}

/** Ready when a TCP port is listened at, where `prefix` leads: `ip netns exec …`. */
export function listening(port: number, ...prefix: string[]): (machine: Machine) => Promise<void> {
  return async (machine) => {
    const [command, ...args] = [...prefix, "ss", "-Hltn", `sport = :${port}`];
    assert.notEqual(await machine.run(command, ...args), "");
  };
}

/** Milliseconds for whatever a step waits for. */
const LIMIT = 45_000;

/** A step that did not do what it should. */
export class StepError extends Error {
  constructor(readonly done: Done, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`${done.prompt} ${done.typed}\n${done.printed}\n${reason}`, { cause });
  }
}

/**
 * Does a step.
 *
 * @throws {StepError} with what was typed and printed, where it fails or its check does
 */
export async function doStep(step: Step, nodes: Record<NodeName, LabNode>): Promise<Done> {
  const done = await begin(step, nodes);
  try {
    const perform = () => performOnce(step, nodes, done);
    if (!("again" in step)) await perform();
    else await waitFor(() => perform().then(() => true), { limitMs: LIMIT, what: step.command });
  } catch (error) {
    throw new StepError(done, error);
  }
  if ("show" in step && step.show) done.printed = extract(done.printed, step.show);
  return done;
}

async function begin(step: Step, nodes: Record<NodeName, LabNode>): Promise<Done> {
  if ("look" in step) return { prompt: "", typed: step.look, printed: "", terminal: "" };
  const name = step.terminal ?? "";
  const { folder } = await nodes[step.on].terminal(name);
  const at = "keys" in step ? "" : prompt(step.on, folder);
  return { on: step.on, prompt: at, typed: typed(step), printed: "", terminal: name };
}

/** A shell's prompt. */
export function prompt(on: NodeName, folder: string): string {
  return `ubuntu@${on}:${folder}$`;
}

/** What is typed in a step, as one writes it down. */
export function typed(step: Exclude<Step, Look>): string {
  return "command" in step ? step.command : "running" in step ? step.running : step.shown;
}

async function performOnce(
  step: Step,
  nodes: Record<NodeName, LabNode>,
  done: Done,
): Promise<void> {
  const printed = await perform(step, nodes);
  done.printed = "look" in step
    ? printed
    : (await nodes[step.on].terminal(step.terminal ?? "")).take();
  await step.check?.(printed);
}

async function perform(step: Step, nodes: Record<NodeName, LabNode>): Promise<string> {
  if ("look" in step) return await step.see();
  const terminal = await nodes[step.on].terminal(step.terminal ?? "");
  if ("keys" in step) await terminal.type(step.keys);
  else await terminal.start("command" in step ? step.command : step.running);
  if ("running" in step && !(step.ready instanceof RegExp)) {
    const { ready, on, running } = step;
    await waitFor(() => ready(nodes[on].machine).then(() => true), {
      limitMs: LIMIT,
      what: running,
    });
    return terminal.output;
  }
  const until = "command" in step ? undefined : "keys" in step ? step.until : step.ready as RegExp;
  if (until) {
    await terminal.waitFor(until, LIMIT);
    return terminal.output;
  }
  const { status, output } = await terminal.prompt(LIMIT);
  const wanted = step.status ?? 0;
  if (status !== wanted) throw new Error(`status ${status}, not ${wanted}:\n${output}`);
  return output;
}

/** The lines that match; `...` in place of those that do not. */
function extract(text: string, pattern: RegExp): string {
  const lines: string[] = [];
  for (const line of text.trimEnd().split("\n")) {
    if (pattern.test(line)) lines.push(line);
    else if (lines.at(-1) !== "...") lines.push("...");
  }
  return lines.map((line) => `${line}\n`).join("");
}
