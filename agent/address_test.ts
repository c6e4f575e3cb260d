import assert from "node:assert/strict";
import type { InterfaceAddress } from "../dataplane/state.ts";
import { selectAddress, usableAddresses } from "./address.ts";
import { address as addressWith } from "./testing.ts";

function address(ip: string, more: Partial<InterfaceAddress> = {}): InterfaceAddress {
  const scope = ip.startsWith("fe80:") ? "link" : "global";
  return addressWith(ip, ip.includes(":") ? 64 : 24, { scope, ...more });
}

const DYNAMIC = { dynamic: true };

Deno.test("global before link-local, static before dynamic, then the kernel's order", () => {
  const ips = (list: InterfaceAddress[], v6 = false) =>
    usableAddresses(list, v6).map(({ ip }) => ip);
  assert.deepEqual(
    ips([
      address("169.254.7.7"),
      address("10.0.0.9", { scope: "link" }),
      address("172.31.16.86", DYNAMIC),
      address("172.31.16.87", DYNAMIC),
      address("172.31.28.198"),
      address("172.31.28.199"),
    ]),
    [
      ...["172.31.28.198", "172.31.28.199", "172.31.16.86", "172.31.16.87"],
      ...["169.254.7.7", "10.0.0.9"],
    ],
  );
  assert.deepEqual(
    ips([
      address("fec0::1", { scope: "site" }),
      address("2001:db8::1", DYNAMIC),
      address("2001:db8::2"),
      address("fe80::1"),
    ], true),
    ["2001:db8::2", "2001:db8::1", "fec0::1"],
  );
});

Deno.test("a dynamic global address comes before a static link-local one", () => {
  const list = [address("169.254.7.7"), address("172.31.28.198", DYNAMIC)];
  assert.equal(selectAddress(list, false), "172.31.28.198");
});

Deno.test("addresses that peers must not be told are never chosen", () => {
  const never = [
    { deprecated: true },
    { tentative: true },
    { duplicate: true },
    { temporary: true },
    { scope: "host" },
  ] as const;
  for (const more of never) {
    for (const [ip, v6] of [["172.31.28.198", false], ["2001:db8::1", true]] as const) {
      assert.equal(selectAddress([address(ip, more)], v6), null, JSON.stringify(more));
    }
  }
  assert.equal(selectAddress([address("127.0.0.2")], false), null);
  assert.equal(selectAddress([address("fe80::1")], true), null);
});

Deno.test("the address in use stays, whatever comes", () => {
  const own = address("172.31.28.198", DYNAMIC);
  const vip = address("172.31.28.200", { prefixLength: 32 });
  assert.equal(selectAddress([vip, own], false, own.ip), own.ip);
  assert.equal(selectAddress([vip, { ...own, tentative: true }], false, own.ip), own.ip);
  assert.equal(selectAddress([vip], false, own.ip), vip.ip);
});

Deno.test("a link-local, deprecated or duplicate address gives way, where there is another", () => {
  const [fallback, lease] = [address("169.254.7.7"), address("172.31.28.198", DYNAMIC)];
  assert.equal(selectAddress([fallback], false, fallback.ip), fallback.ip);
  assert.equal(selectAddress([fallback, lease], false, fallback.ip), lease.ip);
  assert.equal(selectAddress([fallback, lease], false, lease.ip), lease.ip);
  const old = address("2001:db8:1::1", { deprecated: true });
  assert.equal(selectAddress([old], true, old.ip), old.ip);
  assert.equal(selectAddress([old, address("2001:db8:2::1")], true, old.ip), "2001:db8:2::1");
  const ending = address("172.31.28.198", { deprecated: true });
  assert.equal(selectAddress([fallback, ending], false, ending.ip), ending.ip);
  const taken = address("2001:db8:1::1", { duplicate: true, tentative: true });
  assert.equal(selectAddress([taken], true, taken.ip), null);
});
