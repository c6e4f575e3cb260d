import assert from "node:assert/strict";
import fc from "fast-check";
import { faultText, jsonFault, topLevelMembers } from "./json_text.ts";

function where(text: string): string {
  const fault = jsonFault(text);
  return fault === undefined ? "" : faultText(fault);
}

Deno.test("a fault is told with its line, its column and what is wrong", () => {
  const cases: [string, string][] = [
    ["", "line 1, column 1: it ends where a value is missing"],
    ["{", "line 1, column 2: it ends where a key in double quotes or } is missing"],
    ['{\n  "a": 1\n  "b": 2\n}', 'line 3, column 3: "b" where a comma or } should be'],
    ['{\r\n"a": 1,\r\n}', "line 3, column 1: a comma before }"],
    ["[1, 2,]", "line 1, column 7: a comma before ]"],
    ['{"a" 1}', "line 1, column 6: 1 where a colon should be"],
    ['{"a": tru}', "line 1, column 7: tru where a value should be"],
    ['{"a": 010}', "line 1, column 7: 010 where a value should be"],
    ["{'a': 1}", "line 1, column 2: a key in double quotes or } is missing; ' is not a quote"],
    ['{"a": "x\n"}', "line 1, column 7: a string without its closing quote"],
    [
      '{"a": "\\x"}',
      "line 1, column 7: a string with a control character or an escape that JSON does not have",
    ],
    ["{} {}", "line 1, column 4: { where the end should be"],
    ['{"a": [1}', "line 1, column 9: } where a comma or ] should be"],
    ["{\n  // why\n}", "line 2, column 3: a comment"],
    ["# why\n{}", "line 1, column 1: a comment"],
    ["{} /* why */", "line 1, column 4: a comment"],
    ["\ufeff{}", "line 1, column 1: a byte order mark: save the text as UTF-8 without one"],
  ];
  for (const [text, expected] of cases) assert.equal(where(text), expected, text);
});

Deno.test("faults are found in just those texts that are not JSON", () => {
  const isJson = (text: string) => {
    try {
      JSON.parse(text);
      return true;
    } catch {
      return false;
    }
  };
  const broken = fc.tuple(fc.json(), fc.nat(), fc.constantFrom(..."{}[],:\"'1e-. \n\\u/#"))
    .map(([json, at, char]) => {
      const place = at % (json.length + 1);
      return json.slice(0, place) + char + json.slice(place + at % 2);
    });
  fc.assert(fc.property(fc.oneof(fc.json(), broken, fc.string()), (text) => {
    assert.equal(jsonFault(text) === undefined, isJson(text), text);
  }));
  // Depth costs memory, not stack.
  assert.equal(jsonFault("[".repeat(100_000))?.column, 100_001);
});

Deno.test("members come in the text's order, repeated keys, too", () => {
  const text = '{"b": {"x": 1}, "a" : [1, "}"] , "b":null}';
  assert.deepEqual(
    topLevelMembers(text).map(({ key, start, end }) => [key, text.slice(start, end)]),
    [
      ["b", '{"x": 1}'],
      ["a", '[1, "}"]'],
      ["b", "null"],
    ],
  );
  assert.deepEqual(topLevelMembers("{}"), []);
});
