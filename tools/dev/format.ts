/**
 * Figures and tables for people.
 *
 * @module
 */

/** `940 Mbit/s`: three digits and a unit. */
export function bitRate(bitsPerSecond: number): string {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
  let value = bitsPerSecond;
  let unit = 0;
  // Three digits: 999.5 would print as 1000.
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** `0.08 ms`, or `no answer`. */
export function roundTrip(milliseconds: number | undefined): string {
  if (milliseconds === undefined) return "no answer";
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms`;
}

/** Lines of columns as wide as their widest cell; the first row is the heading. */
export function table(rows: string[][]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()
  );
}
