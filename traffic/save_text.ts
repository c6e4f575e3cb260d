/**
 * The text that `iptables-save` and `iptables -S` print, as lines, options and words. Comments, device
 * names and the like in it may have been chosen to look like rules.
 *
 * @module
 */

/** Whether a rule jumps to `chain`, or goes there. */
export function jumpsTo(rule: string, chain: string): boolean {
  return rule.includes(chain) &&
    optionsOf(rule).some(({ name, values }) =>
      (name === "-j" || name === "-g") && values[0] === chain
    );
}

/**
 * Lines of the output; a rule with line breaks in a quoted text, or at the start of a device's name,
 * stays whole. A table's chains stand before its rules: what looks like one after them is part of a
 * rule.
 */
export function* saveLines(text: string): Generator<string> {
  let rules = false;
  for (let start = 0; start < text.length;) {
    const end = ruleEnd(text, start);
    const line = text.slice(start, end);
    start = end + 1;
    if (line.startsWith("*")) rules = false;
    else if (line.startsWith("-A ")) rules = true;
    if (!rules || !line.startsWith(":")) yield line;
  }
}

/** Options whose value is printed as it is, quotation marks and all. */
const UNQUOTED = new Set([
  ...["-A", "-N", "-P", "-j", "-g", "-i", "-o", "--physdev-in", "--physdev-out"],
  ...["--match-set", "--add-set", "--del-set", "--map-set"],
]);

/** Options whose first value may begin with a dash, without being an option. */
const VALUED = new Set([
  ...UNQUOTED,
  ...["--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string", "--name"],
  ...["--helper", "--hashlimit-name", "--label"],
]);

function ruleEnd(text: string, start: number): number {
  let end = lineEnd(text, start);
  // A device's name is not empty.
  while (end < text.length && / -[io] $/.test(text.slice(Math.max(start, end - 4), end))) {
    end = lineEnd(text, end + 1);
  }
  if (!text.slice(start, end).includes('"')) return end;
  for (let at = start;;) {
    const quote = text.indexOf(' "', at);
    if (quote < 0 || quote > end) return end;
    at = quote + 2;
    if (UNQUOTED.has(wordBefore(text, quote))) continue;
    const close = closingQuote(text, at);
    if (close === undefined) continue;
    at = close + 1;
    if (close > end) end = lineEnd(text, close);
  }
}

function lineEnd(text: string, from: number): number {
  const end = text.indexOf("\n", from);
  return end < 0 ? text.length : end;
}

function wordBefore(text: string, space: number): string {
  // None that matters is longer.
  const before = text.slice(Math.max(0, space - 20), space);
  return before.slice(Math.max(before.lastIndexOf(" "), before.lastIndexOf("\n")) + 1);
}

/**
 * Where the quoted text that begins at `from` ends; undefined where it is none: iptables escapes
 * quotation marks within, so that one which is not escaped is the last character of a word.
 */
function closingQuote(text: string, from: number): number | undefined {
  QUOTED_END.lastIndex = from;
  const match = QUOTED_END.exec(text);
  return match === null ? undefined : QUOTED_END.lastIndex - 1;
}

const QUOTED_END = /(?:[^"\\]|\\.)*"(?![^ \n])/sy;

/** An option of a rule. */
export interface RuleOption {
  /** `-s`, `--ctstate`. */
  name: string;
  /** `!` before it. */
  negated: boolean;
  values: string[];
}

/** The options of a rule in their order, without quotes, and without the length of whole addresses. */
export function optionsOf(rule: string): RuleOption[] {
  const options: RuleOption[] = [];
  let negated = false;
  for (const { text, quoted } of wordsOf(rule)) {
    const option = options.at(-1);
    const isValue = option !== undefined && option.values.length === 0 && VALUED.has(option.name);
    if (isValue || quoted) {
      option?.values.push(text);
    } else if (text === "!") {
      negated = true;
    } else if (text.startsWith("-")) {
      options.push({ name: text, negated, values: [] });
      negated = false;
    } else {
      option?.values.push(text.replace(/^([\d.]+)\/32$|^(.*:.*)\/128$/, "$1$2"));
    }
  }
  return options;
}

/** A word of a rule, a quoted one without its quotes and escapes. */
interface Word {
  text: string;
  quoted: boolean;
}

function* wordsOf(rule: string): Generator<Word> {
  let before = "";
  for (let at = 0; at < rule.length;) {
    if (rule[at] === " ") {
      at++;
      continue;
    }
    const raw = UNQUOTED.has(before);
    const close = rule[at] === '"' && !raw ? closingQuote(rule, at + 1) : undefined;
    if (close !== undefined) {
      before = "";
      yield { text: rule.slice(at + 1, close).replaceAll(/\\(.)/gs, "$1"), quoted: true };
      at = close + 1;
    } else {
      const space = rule.indexOf(" ", at);
      before = raw ? "" : rule.slice(at, space < 0 ? undefined : space);
      yield { text: rule.slice(at, space < 0 ? undefined : space), quoted: false };
      at = space < 0 ? rule.length : space;
    }
  }
}

/** Whether `iptables-restore` reads a rule as it is printed: it takes a line, and any quotation mark. */
export function isRestorable(rule: string): boolean {
  return !/[\n\0]/.test(rule) &&
    wordsOf(rule).every(({ text, quoted }) => quoted || !/["\\]/.test(text));
}
