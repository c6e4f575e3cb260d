/**
 * Setting members of a JSON object in its text, so that all else stays byte for byte: order,
 * indentation, numbers beyond what a double holds.
 *
 * @module
 */

/** A top-level member's key and where its value stands in the text. */
interface Member {
  key: string;
  start: number;
  end: number;
}

/**
 * The text with these top-level members set: in place where they are there, else at the end.
 *
 * @throws {SyntaxError} for a text that is no JSON object
 */
export function setMembers(text: string, values: Record<string, string | number>): string {
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new SyntaxError("not a JSON object");
  }
  for (const [key, value] of Object.entries(values)) {
    text = setMember(text, key, JSON.stringify(value));
  }
  return text;
}

function setMember(text: string, key: string, value: string): string {
  const members = topLevelMembers(text);
  // Of a key that is there twice, readers take the last.
  const member = members.findLast((member) => member.key === key);
  if (member) return text.slice(0, member.start) + value + text.slice(member.end);
  const entry = `${JSON.stringify(key)}: ${value}`;
  const open = text.indexOf("{") + 1;
  const last = members.at(-1);
  if (!last) return `${text.slice(0, open)}\n    ${entry}\n${text.slice(text.lastIndexOf("}"))}`;
  // What stands before the first key stands before each: a line break and blanks, or nothing.
  const separator = /^\s*/.exec(text.slice(open))?.[0] ?? "";
  return `${text.slice(0, last.end)},${separator || " "}${entry}${text.slice(last.end)}`;
}

/** The members of the object that a valid JSON text holds. */
function topLevelMembers(text: string): Member[] {
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
