import assert from "node:assert/strict";
import { parseOptions } from "./options.ts";
import { stepLines } from "./show.ts";

Deno.test("options are read, and a mistake is one line that names it", () => {
  assert.deepEqual(parseOptions([]), { options: { keep: false } });
  assert.deepEqual(parseOptions(["--backend=udp", "--keep"]), {
    options: { backend: "udp", keep: true },
  });
  const parsed = parseOptions(["--backend=ipip"]);
  assert.ok("status" in parsed && parsed.status === 2);
  assert.match(parsed.text, /^deno task lab: .*--backend.*'ipip'.*aws-vpc, vxlan, udp/);
});

Deno.test("a step is printed as one sees it in a terminal", () => {
  const step = {
    on: "nodea",
    prompt: "ubuntu@nodea:~$",
    typed: "id -un",
    printed: "ubuntu\n",
  } as const;
  assert.deepEqual(stepLines({ ...step, terminal: "" }), ["ubuntu@nodea:~$ id -un", "ubuntu"]);
  assert.deepEqual(stepLines({ ...step, printed: "\n", terminal: "etcd" }), [
    "[nodea, terminal etcd] ubuntu@nodea:~$ id -un",
  ]);
  const keys = { on: "nodeb", prompt: "", typed: "hi", printed: "", terminal: "chat" } as const;
  assert.deepEqual(stepLines(keys), ["[nodeb, terminal chat] hi"]);
  const look = { prompt: "", typed: "The route table", printed: "a\nb\n", terminal: "" };
  assert.deepEqual(stepLines(look), ["The route table", "a", "b"]);
});
