/**
 * JSON as text: where it breaks, for messages that lead to the place, and where the members of an
 * object stand, in their order, repeated keys included.
 *
 * @module
 */

/** Why a text is not JSON. */
export interface JsonFault {
  /** Both count from 1. */
  line: number;
  column: number;
  reason: string;
  /** It breaks at a comment, which JSON does not have. */
  isComment: boolean;
}

/** A top-level member's key and where its value stands in the text. */
export interface Member {
  key: string;
  start: number;
  end: number;
}

const BLANKS = /[ \t\n\r]*/y;
// deno-lint-ignore no-control-regex
const STRING = /"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SCALAR = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.+-])/y;
/** A piece of text as a message quotes it. */
const WORD = /"[^"\n]{0,20}"?|[^\s{}[\],:"]{1,20}|[^]/y;
const COMMENT = /\/\/|\/\*|#/y;

/** What may come next; the first of each pair of brackets is the one that is open. */
type Expected = "value" | "value or ]" | "key" | "key or }" | "colon" | "next" | "end";

const NAMES: Record<Exclude<Expected, "next">, string> = {
  "value": "a value",
  "value or ]": "a value or ]",
  "key": "a key in double quotes",
  "key or }": "a key in double quotes or }",
  "colon": "a colon",
  "end": "the end",
};

/** Where and why `text` is not JSON; undefined where it is. Reads it once, without recursion. */
export function jsonFault(text: string): JsonFault | undefined {
  const open: ("{" | "[")[] = [];
  let expected: Expected = "value";
  let afterComma = false;
  for (let at = 0;;) {
    at = matchAt(BLANKS, text, at)?.end ?? at;
    if (at >= text.length) {
      return expected === "end" ? undefined : fault(text, at, `it ends where ${name()} is missing`);
    }
    const char = text[at];
    const value: boolean = expected === "value" || expected === "value or ]";
    const key: boolean = expected === "key" || expected === "key or }";
    if (char === '"' && (value || key)) {
      const string = matchAt(STRING, text, at);
      if (!string) return fault(text, at, stringFault(text.slice(at)));
      at = string.end;
      expected = key ? "colon" : afterValue();
    } else if ((char === "{" || char === "[") && value) {
      open.push(char);
      expected = char === "{" ? "key or }" : "value or ]";
      at++;
    } else if ((char === "}" || char === "]") && closes(char)) {
      open.pop();
      expected = afterValue();
      at++;
    } else if (char === ":" && expected === "colon") {
      expected = "value";
      at++;
    } else if (char === "," && expected === "next") {
      expected = open.at(-1) === "{" ? "key" : "value";
      afterComma = true;
      at++;
      continue;
    } else {
      const scalar = value ? matchAt(SCALAR, text, at) : undefined;
      if (!scalar) return unexpected(at);
      at = scalar.end;
      expected = afterValue();
    }
    afterComma = false;
  }

  function afterValue(): Expected {
    return open.length === 0 ? "end" : "next";
  }
  function closes(char: string): boolean {
    const pair = `${open.at(-1)}${char}`;
    return (pair === "{}" && (expected === "next" || expected === "key or }")) ||
      (pair === "[]" && (expected === "next" || expected === "value or ]"));
  }
  function name(): string {
    if (expected !== "next") return NAMES[expected];
    return `a comma or ${open.at(-1) === "{" ? "}" : "]"}`;
  }
  function unexpected(at: number): JsonFault {
    if (matchAt(COMMENT, text, at)) return fault(text, at, "a comment", true);
    if (text[at] === "\ufeff") {
      return fault(text, at, "a byte order mark: save the text as UTF-8 without one");
    }
    const word = matchAt(WORD, text, at)?.text ?? text[at];
    if (afterComma && (word === "}" || word === "]" || word === ",")) {
      return fault(text, at, `a comma before ${word}`);
    }
    if (word.startsWith("'")) return fault(text, at, `${name()} is missing; ' is not a quote`);
    return fault(text, at, `${printable(word)} where ${name()} should be`);
  }
}

/** Control characters, which a line cannot hold, as JSON writes them. */
function printable(word: string): string {
  return word.replaceAll(/[^ -~\xa1-\uffff]/g, (char) => JSON.stringify(char).slice(1, -1));
}

function stringFault(rest: string): string {
  const [content] = /^"(?:[^"\\\n\r]|\\[^])*/.exec(rest) ?? [""];
  if (rest[content.length] !== '"') return "a string without its closing quote";
  return "a string with a control character or an escape that JSON does not have";
}

function matchAt(
  pattern: RegExp,
  text: string,
  at: number,
): { text: string; end: number } | undefined {
  pattern.lastIndex = at;
  const found = pattern.exec(text);
  return found ? { text: found[0], end: at + found[0].length } : undefined;
}

function fault(text: string, at: number, reason: string, isComment = false): JsonFault {
  const lines = text.slice(0, at).split(/\r\n|\r|\n/);
  return { line: lines.length, column: lines.at(-1)!.length + 1, reason, isComment };
}

/** The fault as messages have it: `line 3, column 5: a comma before }`. */
export function faultText({ line, column, reason }: JsonFault): string {
  return `line ${line}, column ${column}: ${reason}`;
}

/** The members of the object that a valid JSON text holds, in the text's order, repeated keys, too. */
export function topLevelMembers(text: string): Member[] {
  const members: Member[] = [];
  // Strings, brackets, separators and the other scalars; blanks fall between.
  const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;
  let depth = 0;
  let key: string | undefined;
  let start = -1;
  let end = -1;
  for (const match of text.matchAll(token)) {
    const [word] = match;
    const atTop = depth === 1;
    if (atTop && key !== undefined && (word === "," || word === "}")) {
      members.push({ key, start, end });
      key = undefined;
      start = -1;
    } else if (atTop && key === undefined && word.startsWith('"')) {
      key = JSON.parse(word) as string;
    } else if (key !== undefined && !(atTop && start < 0 && word === ":")) {
      if (start < 0) start = match.index;
      end = match.index + word.length;
    }
    if (word === "{" || word === "[") depth++;
    if (word === "}" || word === "]") depth--;
  }
  return members;
}
