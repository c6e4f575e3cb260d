/**
 * Answers in pages, as EC2 gives them and moto does not.
 *
 * @module
 */

/**
 * The part of an answer that `MaxResults` and `NextToken` ask for.
 *
 * @param xml an answer with all items
 * @param set the element with the items: `routeTableSet`
 */
export function pageOf(xml: string, set: string, params: URLSearchParams): string {
  const size = Number(params.get("MaxResults") ?? Infinity);
  if (size === Infinity) return xml;
  const first = Number(params.get("NextToken") ?? 0);
  return withItems(xml, set, (items) => ({
    items: items.slice(first, first + size),
    rest: first + size < items.length ? `<nextToken>${first + size}</nextToken>` : "",
  }));
}

/**
 * The answer with other items, and something after them.
 *
 * @param set the element with the items
 */
export function withItems(
  xml: string,
  set: string,
  change: (items: string[]) => { items: string[]; rest?: string },
): string {
  const [open, close] = [`<${set}>`, `</${set}>`];
  const [from, to] = [xml.indexOf(open) + open.length, xml.lastIndexOf(close)];
  if (to < 0) return xml;
  const { items, rest = "" } = change(topItems(xml.slice(from, to)));
  return `${xml.slice(0, from)}${items.join("")}${close}${rest}${xml.slice(to + close.length)}`;
}

/** The outermost `item` elements. */
function topItems(xml: string): string[] {
  const items: string[] = [];
  let [depth, start] = [0, 0];
  for (const { 0: tag, index } of xml.matchAll(/<\/?item>/g)) {
    if (tag === "<item>" && depth++ === 0) start = index;
    else if (tag === "</item>" && --depth === 0) items.push(xml.slice(start, index + tag.length));
  }
  return items;
}
