import assert from "node:assert/strict";
import { compileGoRegExp } from "./go_regexp.ts";

Deno.test("what Go's syntax has and JavaScript's writes otherwise", () => {
  const matches: [string, string, boolean][] = [
    ["eth.*", "eth0", true],
    ["^eth[[:digit:]]$", "eth0", true],
    ["^eth[[:digit:]]$", "ethd", false],
    ["(?i)^ETH", "eth0", true],
    [`\\Aeth0\\z`, "eth0", true],
    [`\\Aeth0\\z`, "eth01", false],
    ["(?P<name>en)p", "enp3s0", true],
    [`br\\-lan`, "br-lan", true],
    [`192\\.168\\.`, "192.168.1.2", true],
    [`192\\.168\\.`, "192x168.1.2", false],
    [`\\\\A`, "\\A", true],
  ];
  for (const [pattern, text, expected] of matches) {
    assert.equal(compileGoRegExp(pattern).test(text), expected, `${pattern} on ${text}`);
  }
});

Deno.test("what cannot be said is refused with a reason in one line", () => {
  for (const pattern of ["(", "[", "*", "[[:nothing:]]", `\\Q.\\E`, "a{2,1}"]) {
    assert.throws(() => compileGoRegExp(pattern), { name: "SyntaxError", message: /^[^\n]+$/ });
  }
});
