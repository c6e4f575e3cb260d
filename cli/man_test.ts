import assert from "node:assert/strict";
import { leaseFileOf } from "../agent/lease_file.ts";
import { BACKEND_NAMES, effectiveOptions } from "../backends/registry.ts";
import { parseNetworkConfig } from "../subnet/config.ts";
import { effectiveConfig } from "./config.ts";
import { FLAGS } from "./flags.ts";
import { page } from "./man.ts";
import { buildProgram } from "./program.ts";

/** The page's sections by title, without troff's escapes. */
function sections(): Map<string, string> {
  const text = page(buildProgram()).replaceAll("\\-", "-");
  return new Map(
    text.split(/^\.SH /m).slice(1).map((part) => {
      const end = part.indexOf("\n");
      return [part.slice(0, end), part.slice(end + 1)];
    }),
  );
}

Deno.test("the manual page has the backends, the config's keys and their defaults", async () => {
  const page = sections();
  const backends = page.get("BACKENDS")!;
  for (const Type of BACKEND_NAMES) {
    const config = parseNetworkConfig(JSON.stringify({
      ...{ Network: "10.1.0.0/16", EnableIPv6: true, IPv6Network: "fd00:1::/48" },
      Backend: { Type },
    }));
    const [, own] = new RegExp(`^\\.B ${Type}\\n(.*)$`, "m").exec(backends) ?? [];
    assert.ok(own, Type);
    const options = await effectiveOptions(config);
    for (const [key, value] of Object.entries(options)) {
      assert.ok(own.includes(key), key);
      if (typeof value === "number") assert.ok(own.includes(`default ${value}`), `${key} ${value}`);
    }
    for (const key of Object.keys(effectiveConfig(config, options))) {
      assert.match(page.get("NETWORK CONFIG")!, new RegExp(`^\\.B .*\\b${key}\\b`, "m"));
    }
  }
});

Deno.test("the manual page names signals, each file and what exit status 2 means", () => {
  const page = sections();
  assert.match(page.get("SIGNALS")!, /SIGTERM, SIGINT/);
  const files = page.get("FILES")!;
  const subnetFile = FLAGS["subnet-file"].default;
  for (
    const path of [
      ...[subnetFile, leaseFileOf(subnetFile), `${subnetFile}.forward-policy`],
      "/var/cache/flanneld",
    ]
  ) assert.ok(files.includes(`.B ${path}\n`), path);
  const [, two] = page.get("EXIT STATUS")!.split(".B 2\n");
  for (const cause of ["flags", "capabilities", "another agent"]) assert.ok(two.includes(cause));
});
