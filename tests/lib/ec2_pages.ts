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
  const [open, close] = [`<${set}>`, `</${set}>`];
  const [from, to] = [xml.indexOf(open) + open.length, xml.lastIndexOf(close)];
  const size = Number(params.get("MaxResults") ?? Infinity);
  if (to < 0 || size === Infinity) return xml;
  const items = topItems(xml.slice(from, to));
  const first = Number(params.get("NextToken") ?? 0);
  const rest = first + size < items.length ? `<nextToken>${first + size}</nextToken>` : "";
  const page = items.slice(first, first + size).join("");
  return `${xml.slice(0, from)}${page}${close}${rest}${xml.slice(to + close.length)}`;
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
