/**
 * How the steps of the lab are printed.
 *
 * @module
 */
import type { Done } from "../../testbed/lab/step.ts";

/** Lines of a step: what was typed, as one sees it in a terminal, and what came back. */
export function stepLines({ on, prompt, typed, printed, terminal }: Done): string[] {
  const place = terminal === "" ? "" : `[${on}, terminal ${terminal}]`;
  const lines = printed.trimEnd() === "" ? [] : printed.trimEnd().split("\n");
  if (prompt !== "") return [`${place}${place && " "}${prompt} ${typed}`, ...lines];
  if (on === undefined) return [typed, ...lines];
  return [[place, typed].filter(Boolean).join(" "), ...lines];
}
