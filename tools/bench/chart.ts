/**
 * Panels of bars as an SVG picture that needs nothing from elsewhere and follows light and dark.
 *
 * @module
 */

/** One measure of several contenders. */
export interface Panel {
  /** `TCP, 1 stream` */
  title: string;
  /** `Gbit/s` */
  unit: string;
  better: "more" | "less";
  bars: Bar[];
}

/** One contender; `ours` is drawn in the strong colour. */
export interface Bar {
  name: string;
  value: number;
  ours: boolean;
}

const COLUMNS = 2;
const PANEL = { width: 480, gap: 24, head: 56, row: 30, bar: 18, foot: 18 };
const NAMES = 140;
const VALUES = 76;
const MARGIN = 24;

const STYLE = `
  .card { fill: #ffffff; stroke: #d0d7de }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #59636e; font-size: 12px }
  .name { text-anchor: end }
  .strong { font-weight: 600 }
  .bar { fill: #9aa4af }
  .bar.ours { fill: #1a7f64 }
  .axis { stroke: #d0d7de }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .bar { fill: #6e7681 }
    .bar.ours { fill: #3fb98f }
    .axis { stroke: #3d444d }
  }
`;

/**
 * Draws each panel on a linear scale of its own, two abreast.
 *
 * @param caption a line below, which says where the figures come from
 */
export function chart(panels: Panel[], caption: string): string {
  const width = 2 * MARGIN + COLUMNS * PANEL.width + (COLUMNS - 1) * PANEL.gap;
  const parts: string[] = [];
  let top = MARGIN;
  for (let first = 0; first < panels.length; first += COLUMNS) {
    const line = panels.slice(first, first + COLUMNS);
    for (const [column, panel] of line.entries()) {
      const left = MARGIN + column * (PANEL.width + PANEL.gap);
      parts.push(`<g transform="translate(${left} ${top})">${draw(panel)}</g>`);
    }
    top += Math.max(...line.map(height));
  }
  const total = top + MARGIN + 8;
  const title = panels.map((panel) => panel.title).join("; ");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" ` +
    `width="${width}" height="${total}" role="img" aria-label="${escape(title)}">
<style>${STYLE}</style>
<rect class="card" x="0.5" y="0.5" width="${width - 1}" height="${total - 1}" rx="8"/>
${parts.join("\n")}
<text class="quiet" x="${MARGIN}" y="${total - 16}">${escape(caption)}</text>
</svg>
`;
}

function height({ bars }: Panel): number {
  return PANEL.head + bars.length * PANEL.row + PANEL.foot;
}

function draw(panel: Panel): string {
  const { title, unit, better, bars } = panel;
  const most = Math.max(...bars.map(({ value }) => value));
  const room = PANEL.width - NAMES - VALUES;
  const bottom = PANEL.head + bars.length * PANEL.row;
  const rows = bars.map(({ name, value, ours }, index) => {
    const top = PANEL.head + index * PANEL.row + (PANEL.row - PANEL.bar) / 2;
    // A sliver is left of the smallest: it is there.
    const length = Math.max(2, value / most * room);
    const base = top + PANEL.bar - 5;
    const weight = ours ? " strong" : "";
    return `<text class="name${weight}" x="${NAMES - 10}" y="${base}">${escape(name)}</text>` +
      `<rect class="bar${ours ? " ours" : ""}" x="${NAMES}" y="${top}" ` +
      `width="${length.toFixed(1)}" height="${PANEL.bar}" rx="2"/>` +
      `<text class="value${weight}" x="${(NAMES + length + 8).toFixed(1)}" y="${base}">` +
      `${significant(value)}</text>`;
  });
  return [
    `<text class="title" x="0" y="18">${escape(title)}</text>`,
    `<text class="quiet" x="0" y="38">${escape(unit)}, ${better} is better</text>`,
    `<line class="axis" x1="${NAMES}" y1="${PANEL.head}" x2="${NAMES}" y2="${bottom}"/>`,
    ...rows,
  ].join("\n");
}

/** Three significant figures: `0.345`, `15.1`, `141`. */
export function significant(value: number): string {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 3));
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
