/**
 * Tables for the terminal.
 *
 * @module
 */

/**
 * Rows as lines, the cells of a column padded to its widest; the first row is the titles.
 *
 * @param right titles of columns whose cells stand at the right, as numbers do
 */
export function table(rows: readonly string[][], right: ReadonlySet<string> = new Set()): string {
  const [titles] = rows;
  const widths = titles.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const pad = (cell: string, column: number) =>
    right.has(titles[column]) ? cell.padStart(widths[column]) : cell.padEnd(widths[column]);
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}
