import assert from "node:assert/strict";
import { DeviceHealth } from "./device_health.ts";

const refused = (entry: string) => [{ entry, errno: 98, message: "in use" }];

Deno.test("a device is at fault while its link, its tunnel or its address is refused", () => {
  const health = new DeviceHealth();
  for (
    const entry of [
      "link flannel.1 type vxlan id 1 local 192.0.2.1 dev eth0 dstport 8472",
      "tunnel flannel.1",
      "address 10.1.2.0/32 dev flannel.1",
      "kernel state",
    ]
  ) {
    health.note(refused(entry), ["flannel.1"]);
    assert.equal(health.problem(), `${entry}: in use`);
    assert.equal(health.problem(60_000), undefined, "not for long yet");
  }
  for (
    const entry of [
      "link flannel.10 type vxlan id 1 local 192.0.2.1 dev eth0 dstport 8472",
      "link cni0 type bridge",
      "removal of link flannel.1",
      "route 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink",
    ]
  ) {
    health.note(refused(entry), ["flannel.1"]);
    assert.equal(health.problem(), undefined, entry);
  }
});

Deno.test("who waits for the devices goes on when they work, or when told to stop", async () => {
  const health = new DeviceHealth();
  const stop = new AbortController();
  await health.working(stop.signal);
  health.note(refused("link flannel.1"), ["flannel.1"]);
  let goesOn = false;
  const waiting = health.working(stop.signal).then(() => goesOn = true);
  const stopped = health.working(stop.signal);
  health.note(refused("tunnel flannel.1"), ["flannel.1"]);
  await Promise.resolve();
  assert.equal(goesOn, false);
  health.note([], ["flannel.1"]);
  await waiting;
  await stopped;
  health.note(refused("link flannel.1"), ["flannel.1"]);
  const another = health.working(stop.signal);
  stop.abort();
  await another;
});

Deno.test("entries on a device without its link or tunnel are consequences, others are not", () => {
  const health = new DeviceHealth();
  const [route] = refused("route 10.1.2.0/24 via 10.1.2.0 dev flannel.1 onlink");
  const [other] = refused("route 10.1.2.0/24 via 192.0.2.2 dev eth0");
  const [link] = refused("link flannel.1 type vxlan id 1 local 192.0.2.1 dev eth0 dstport 8472");
  health.note([link, route, other], ["flannel.1"]);
  assert.deepEqual([link, route, other].map((error) => health.isConsequence(error)), [
    false,
    true,
    false,
  ]);
  health.note(refused("address 10.1.2.0/32 dev flannel.1"), ["flannel.1"]);
  assert.equal(health.isConsequence(route), false, "the device itself exists");
});
