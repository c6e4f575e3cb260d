/**
 * Setting members of a JSON object in its text, so that all else stays byte for byte: order,
 * indentation, numbers beyond what a double holds.
 *
 * @module
 */
import { topLevelMembers } from "../base/json_text.ts";

/**
 * The text with these top-level members set: in place where they are there, else at the end.
 *
 * @throws {SyntaxError} for a text that is not a JSON object
 */
export function setMembers(
  text: string,
  values: Record<string, string | number | boolean>,
): string {
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
