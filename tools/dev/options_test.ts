import assert from "node:assert/strict";
import { parseOptions } from "./options.ts";

Deno.test("options have defaults and are read", () => {
  assert.deepEqual(parseOptions([]), {
    options: { nodes: 2, backend: "vxlan", family: "ipv4", once: false },
  });
  assert.deepEqual(
    parseOptions(["--nodes=8", "--backend", "host-gw", "--family", "dual", "--once"]),
    { options: { nodes: 8, backend: "host-gw", family: "dual", once: true } },
  );
});

Deno.test("a mistake is one line that names it, with status 2", () => {
  const mistakes: [string[], RegExp][] = [
    [["--nodes=9"], /--nodes.*'9'.*2 to 8/],
    [["--nodes=1.5"], /--nodes.*2 to 8/],
    [["--backend=vlan"], /--backend.*'vlan'.*vxlan, host-gw, udp/],
    [["--family=ipx"], /--family.*dual/],
    [["--nope"], /--nope/],
    [["stray"], /argument/],
  ];
  for (const [args, pattern] of mistakes) {
    const parsed = parseOptions(args);
    assert.ok("status" in parsed && parsed.status === 2, args.join());
    assert.match(parsed.text, pattern);
    assert.ok(!parsed.text.includes("\n"), parsed.text);
  }
});

Deno.test("--help is no mistake", () => {
  const parsed = parseOptions(["--help"]);
  assert.ok("status" in parsed && parsed.status === 0);
  assert.match(parsed.text, /--nodes <n>[\s\S]*--once/);
});
