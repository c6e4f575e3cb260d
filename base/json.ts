/**
 * JSON from the store, which anyone may have written: an object that is not nested so deep that to
 * walk it, as `JSON.stringify` does by calling itself, would overflow the stack.
 *
 * @module
 */
import { faultText, jsonFault, topLevelMembers } from "./json_text.ts";

/** Levels of objects and arrays that are read. Go's decoder takes 10,000, flannel's data need 3. */
export const DEEPEST = 32;

/**
 * Parses a JSON object.
 *
 * @throws {SyntaxError} whose message says what the text is instead, to follow a subject: `is not
 * JSON: …`
 */
export function parseJsonObject(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const fault = jsonFault(text);
    throw new SyntaxError(`is not JSON: ${fault ? faultText(fault) : (error as Error).message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SyntaxError(`is not a JSON object: ${shorten(text.trim())}`);
  }
  if (isTooDeep(value)) throw new SyntaxError(`is nested more than ${DEEPEST} levels deep`);
  return value;
}

/** A member of a JSON object, and the text of its value. */
export interface ParsedMember {
  key: string;
  value: unknown;
  text: string;
}

/**
 * The members of a JSON object in the text's order, repeated keys, too: Go's decoder, which matches
 * keys without regard to case, takes the last of them.
 *
 * @throws {SyntaxError} as {@linkcode parseJsonObject}
 */
export function parseMembers(text: string): ParsedMember[] {
  parseJsonObject(text);
  return topLevelMembers(text).map(({ key, start, end }) => {
    const slice = text.slice(start, end);
    const value: unknown = JSON.parse(slice);
    // Those that a later one of the same key replaces have not been looked at yet.
    if (typeof value === "object" && value !== null && isTooDeep(value)) {
      throw new SyntaxError(`is nested more than ${DEEPEST} levels deep`);
    }
    return { key, value, text: slice };
  });
}

/** Level by level: a walk that called itself would overflow on what it is to find. */
function isTooDeep(value: object): boolean {
  let level: object[] = [value];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > DEEPEST) return true;
    level = level.flatMap((one) =>
      Object.values(one).filter((member) => typeof member === "object" && member !== null)
    );
  }
  return false;
}

/** A text cut to what a line of the log may quote of it. */
export function shorten(text: string, length = 80): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** A value as a line may quote it. */
export function quote(value: unknown, length = 80): string {
  return shorten(JSON.stringify(value) ?? String(value), length);
}
