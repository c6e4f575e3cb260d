import assert from "node:assert/strict";
import { capabilityFault } from "./capabilities.ts";

Deno.test("missing capabilities are named once, those to run with always", () => {
  const advice = "run as root or with CAP_NET_ADMIN and CAP_NET_RAW";
  const cases: [string[], string | undefined][] = [
    [[], undefined],
    [["CAP_NET_RAW"], `cannot clean up without CAP_NET_RAW: ${advice}`],
    [["CAP_NET_ADMIN"], `cannot clean up without CAP_NET_ADMIN: ${advice}`],
    [["CAP_NET_ADMIN", "CAP_NET_RAW"], `cannot clean up: ${advice}`],
  ];
  for (const [missing, line] of cases) assert.equal(capabilityFault(missing, "clean up"), line);
});
