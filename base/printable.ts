/**
 * Text from elsewhere, such as names of devices and processes, made fit for a log or a terminal.
 *
 * @module
 */

/** A text on one line, with what a terminal would take for an order escaped. */
export function printable(text: string): string {
  return text
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x08\x0a-\x1f\x7f]/g, (char) => JSON.stringify(char).slice(1, -1))
    // C1 controls, and what breaks lines or turns the direction of text.
    .replace(
      /[\x80-\x9f\u2028-\u202e\u2066-\u2069]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
}
