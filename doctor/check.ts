/**
 * Runs checks so that one that fails or hangs holds up none of the others.
 *
 * @module
 */
import { fail, type Finding } from "../backends/finding.ts";

/** Milliseconds for a check, unless it has its own limit. */
const LIMIT = 5_000;

/** A finding and what it is about, for programs that read it. */
export interface Entry extends Finding {
  area: string;
}

/** One thing to examine. */
export interface Check {
  /** Stable name of what it is about: `etcd`, `peers`. */
  area: string;
  limitMs?: number;
  run(): AsyncIterable<Finding>;
}

/** Runs a check: what it found until it ended, failed or took too long, and which of these. */
export async function run({ area, limitMs = LIMIT, run }: Check): Promise<Entry[]> {
  const found: Entry[] = [];
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), limitMs);
  try {
    const ended = await Promise.race([gather(area, run, found), late]);
    if (ended !== "late") return found;
    const detail = `not known: the check timed out after ${limitMs / 1000} s`;
    // A copy: the check goes on by itself.
    return [...found, { ...fail(area, detail), area }];
  } catch (error) {
    return [...found, { ...fail(area, reasonOf(error)), area }];
  } finally {
    clearTimeout(timer);
  }
}

async function gather(area: string, run: Check["run"], found: Entry[]): Promise<void> {
  for await (const finding of run()) found.push({ ...finding, area });
}

/** An error as one line. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().replaceAll(/\s*\n\s*/g, "; ") || "unknown error";
}
