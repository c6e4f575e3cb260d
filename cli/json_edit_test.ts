import assert from "node:assert/strict";
import { setMembers } from "./json_edit.ts";

const VALUES = { bip: "10.1.40.1/24", mtu: 1450 };

Deno.test("members are set in place and added behind, all else stays byte for byte", () => {
  const before = `{
  "log-driver" : "local",
  "mtu": 1500 ,
  "nested": {"bip": "no", "mtu": [1, {"a": "}"}]},
  "big": 12345678901234567890
}
`;
  const after = `{
  "log-driver" : "local",
  "mtu": 1450 ,
  "nested": {"bip": "no", "mtu": [1, {"a": "}"}]},
  "big": 12345678901234567890,
  "bip": "10.1.40.1/24"
}
`;
  assert.equal(setMembers(before, VALUES), after);
  assert.equal(setMembers(after, VALUES), after);
});

Deno.test("objects in one line, empty ones, tabs, values that are no scalars", () => {
  assert.equal(setMembers(`{"a":1}`, { b: 2 }), `{"a":1, "b": 2}`);
  assert.equal(setMembers(`{}`, { b: 2 }), `{\n    "b": 2\n}`);
  assert.equal(setMembers(`{\n\t"a": []\n}`, { b: 2 }), `{\n\t"a": [],\n\t"b": 2\n}`);
  assert.equal(setMembers(`{"b": {"x": [1]}, "c": "\\"}"}`, { b: 2 }), `{"b": 2, "c": "\\"}"}`);
});

Deno.test("of a key that is there twice the last counts", () => {
  assert.equal(setMembers(`{"b": 1, "b": 1}`, { b: 2 }), `{"b": 1, "b": 2}`);
});

Deno.test("what is not a JSON object is refused", () => {
  for (const text of ["", "[]", "null", `{"a": 1,}`, "{"]) {
    assert.throws(() => setMembers(text, VALUES), SyntaxError, text);
  }
});
