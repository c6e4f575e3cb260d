/**
 * What a reconcile did to the kernel, in the log from level 2 on.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import type { ApplyReport, TableCounts } from "../dataplane/state.ts";

const log = getLogger(["flanneld", "kernel"]);

/** Logs what was changed; nothing where all was right. */
export function logReconcile(report: ApplyReport): void {
  if (!log.isEnabledFor("debug")) return;
  const { kept, tables, micros } = report;
  const changes = changesText(report);
  if (changes === "") return;
  log.debug("Changed the kernel's state in {ms} ms: {tables}; {kept} kept: {changes}", {
    ms: (micros / 1000).toFixed(1),
    tables: Object.entries(tables).map(([table, counts]) => `${table}: ${textOf(counts)}`)
      .join("; "),
    kept,
    changes,
  });
}

/** The first of the entries that were touched, and how many more there are; empty for none. */
export function changesText(
  { added, changed, removed, entries }: ApplyReport,
  most = Infinity,
): string {
  const named = entries.slice(0, most);
  const more = added + changed + removed - named.length;
  return named.join(", ") + (more > 0 ? `, and ${more} more` : "");
}

function textOf(counts: TableCounts): string {
  return Object.entries(counts).filter(([, count]) => count > 0)
    .map(([what, count]) => `${count} ${what}`).join(", ");
}
