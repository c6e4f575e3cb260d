/**
 * Regular expressions as flannel's users write them, in Go's syntax (RE2).
 *
 * @module
 */

const POSIX_CLASSES: Record<string, string> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  digit: "0-9",
  lower: "a-z",
  upper: "A-Z",
  punct: "!-\\/:-@\\[-`\\{-~",
  space: "\\s",
  word: "\\w",
  xdigit: "0-9A-Fa-f",
};

/**
 * Compiles a regular expression in Go's syntax: leading flags as in `(?i)eth`, `\A`, `\z`, POSIX
 * classes, named groups `(?P<name>…)` and escaped punctuation mean here what they mean there.
 * What neither syntax shares is refused, never understood otherwise.
 *
 * @throws {SyntaxError} with a message in one line without the pattern
 */
export function compileGoRegExp(pattern: string): RegExp {
  const [, flags = "", rest] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(pattern) ?? [];
  const source = rest
    .replace(/\[:(\^?)(\w+):\]/g, (whole, negated, name) => {
      const ranges = negated ? undefined : POSIX_CLASSES[name];
      if (!ranges) throw new SyntaxError(`unknown character class ${whole}`);
      return ranges;
    })
    // Escapes of two characters are taken as one, so that the backslash of `\\A` stays one.
    .replace(/\\(.)|\(\?P</gs, (whole, escaped) => {
      if (whole === "(?P<") return "(?<";
      if (escaped === "A") return "(?<![^])";
      if (escaped === "z") return "(?![^])";
      return /[-_ "#%&',:;<=>@`~!]/.test(escaped)
        ? `\\x${escaped.charCodeAt(0).toString(16).padStart(2, "0")}`
        : whole;
    });
  try {
    return new RegExp(source, `u${flags}`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // V8's text ends in the reason: "Invalid regular expression: /(/u: Unterminated group".
    throw new SyntaxError(message.slice(message.lastIndexOf(": ") + 2).toLowerCase());
  }
}
