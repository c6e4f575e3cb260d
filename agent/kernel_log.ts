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
  const { added, changed, removed, kept, tables, entries, micros } = report;
  const total = added + changed + removed;
  if (total === 0) return;
  log.debug("Changed the kernel's state in {ms} ms: {tables}; {kept} kept: {entries}{more}", {
    ms: (micros / 1000).toFixed(1),
    tables: Object.entries(tables).map(([table, counts]) => `${table}: ${textOf(counts)}`)
      .join("; "),
    kept,
    entries: entries.join(", "),
    more: entries.length < total ? `, and ${total - entries.length} more` : "",
  });
}

function textOf(counts: TableCounts): string {
  return Object.entries(counts).filter(([, count]) => count > 0)
    .map(([what, count]) => `${count} ${what}`).join(", ");
}
