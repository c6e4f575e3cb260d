import assert from "node:assert/strict";
import { lan, NetNs, run, veth, waitFor } from "./netns.ts";

Deno.test("two namespaces joined by veth reach each other over IPv4 and IPv6", async () => {
  let name = "";
  {
    await using a = await NetNs.create("a");
    await using b = await NetNs.create("b");
    name = a.name;
    await veth({ ns: a, dev: "eth0", addresses: ["192.0.2.1/24", "fd00::1/64"] }, {
      ns: b,
      dev: "eth0",
      addresses: ["192.0.2.2/24", "fd00::2/64"],
      via: ["192.0.2.1", "fd00::1"],
    }, { mtu: 1400 });
    await b.run("ping", "-c1", "-W1", "192.0.2.1");
    await waitFor(async () => (await a.exec("ping", "-c1", "-W1", "fd00::2")).code === 0);
    assert.match(await b.run("ip", "-6", "route"), /default via fd00::1/);
    assert.match(await a.run("ip", "link", "show", "eth0"), /mtu 1400/);
    await assert.rejects(a.run("ip", "link", "show", "nothere"), /status 1[\s\S]*does not exist/);
  }
  assert.ok(!(await run("ip", ["netns", "list"])).includes(name), "namespace removed");
});

Deno.test("a switch joins several namespaces", async () => {
  await using a = await NetNs.create("a");
  await using b = await NetNs.create("b");
  await using c = await NetNs.create("c");
  await using _sw = await lan(
    "sw",
    [a, b, c].map((ns, i) => ({ ns, dev: "eth0", addresses: [`192.0.2.${i + 1}/24`] })),
  );
  await a.run("ping", "-c1", "-W1", "192.0.2.2");
  await c.run("ping", "-c1", "-W1", "192.0.2.1");
});

Deno.test("a spawned process gives its lines and is ended with the namespace", async () => {
  const ns = await NetNs.create("p");
  const process = ns.spawn("sh", ["-c", "echo one; echo two >&2; sleep 60"]);
  assert.equal((await process.waitForLine(/^t(.)o$/, 2000))[1], "w");
  await process.waitForLine(/one/, 2000);
  await assert.rejects(process.waitForLine(/three/, 50), /was silent/);
  await ns[Symbol.asyncDispose]();
  assert.equal((await process.status).success, false);
  await assert.rejects(process.waitForLine(/three/, 50), /ended without/);
});
