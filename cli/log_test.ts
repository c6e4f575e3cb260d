import assert from "node:assert/strict";
import type { LogLevel } from "@logtape/logtape";
import { formatRecord } from "./log.ts";

function format(level: LogLevel, message: unknown[], category = ["flanneld", "agent"]): string {
  const timestamp = new Date(2019, 2, 31, 1, 44, 17, 321).getTime();
  return formatRecord({
    category,
    level,
    message,
    rawMessage: "",
    timestamp,
    properties: {},
  }, 27251);
}

Deno.test("a line in glog's form", () => {
  assert.match(
    format("info", ["Allocated lease (", "10.1.40.0/24", ") to current node"]),
    /^I0331 01:44:17\.321\d{3} {3}27251 agent\] Allocated lease \(10\.1\.40\.0\/24\) to current node$/,
  );
  assert.match(format("warning", ["x"], ["flanneld"]), /^W.* main\] x$/);
  assert.match(format("error", ["x"]), /^E/);
  assert.match(format("debug", ["x"]), /^I/);
});

Deno.test("one line an event, whatever it says", () => {
  const line = format("info", ["a\nb\x1b[31m ", new Error("c\r\nd"), " ", { e: 1 }]);
  assert.match(line, /\] a\\nb\\u001b\[31m c\\r\\nd \{ e: 1 \}$/);
});
