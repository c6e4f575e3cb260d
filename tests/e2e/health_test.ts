/** `--healthz-port`, before there is a network config and after. */
import assert from "node:assert/strict";
import { Cluster, configWithRoom } from "../../testbed/cluster.ts";
import { NetNs } from "../../testbed/netns.ts";
import {
  eventually,
  matching,
  putLease,
  runFlanneld,
  storedLeases,
  waitForwarding,
} from "./support.ts";

Deno.test("health, readiness and metrics, from no config to peers", async () => {
  await using cluster = await Cluster.create({ label: "health", network: null });
  const [one, two] = cluster.nodes;
  const agent = one.startAgent();
  await eventually(async () => assert.equal((await one.health("/healthz")).status, 200));
  assert.equal((await one.health("/readyz")).status, 503);
  assert.equal((await one.health("/nothing")).status, 404);
  assert.equal(metric((await one.health("/metrics")).body, "flanneld_ready"), 0);
  await agent.waitForLine(/coreos\.com\/network\/config/);
  // A config that cannot be is waited on, too.
  await cluster.writeConfig('{"Network":"10.1.0.0/33"}');
  await agent.waitForLine(/10\.1\.0\.0\/33/, 20_000);
  assert.equal((await one.health("/readyz")).status, 503);
  await cluster.writeConfig(configWithRoom());
  await one.waitReady();
  assert.equal(matching(agent, /^[WE].*10\.1\.0\.0\/33/).length, 1, agent.lines.join("\n"));

  two.startAgent();
  await two.waitReady();
  await waitForwarding(cluster, "vxlan");
  await putLease(cluster, "10.1.240.0-24", {
    PublicIP: "192.168.77.99",
    PublicIPv6: null,
    BackendType: "host-gw",
  });
  const now = Date.now() / 1000;
  await eventually(async () => {
    const { status, body } = await one.health("/metrics");
    assert.equal(status, 200);
    assert.equal(metric(body, "flanneld_ready"), 1);
    assert.equal(metric(body, "flanneld_leases"), (await storedLeases(cluster)).length);
    assert.equal(metric(body, "flanneld_peers"), 1);
    assert.equal(metric(body, "flanneld_peers_skipped"), 1);
    assert.equal(metric(body, "flanneld_failed_entries"), 0);
    assert.equal(metric(body, 'flanneld_backend_errors_total{backend="vxlan"}'), 0);
    assert.ok(Math.abs(metric(body, "flanneld_etcd_last_contact_time_seconds") - now) < 60);
    const expiration = metric(body, "flanneld_lease_expiration_time_seconds");
    assert.ok(Math.abs(expiration - now - 86_400) < 60, `${expiration}`);
    const reconciles = metric(body, "flanneld_reconciles_total");
    assert.ok(reconciles >= 2, `${reconciles}`);
    assert.ok(metric(body, "flanneld_reconcile_seconds_total") > 0);
    assert.match(body, /^# HELP flanneld_peers .+\n# TYPE flanneld_peers gauge$/m);
  });
});

Deno.test("a health port that is taken, or an address that is not there, is named with its flag", async () => {
  await using ns = await NetNs.create("healthport");
  await ns.run("ip", "link", "set", "lo", "up");
  const listen =
    "Deno.listen({ port: 10256 }); console.log('listening'); setInterval(() => {}, 1e6)";
  await using holder = ns.spawn(Deno.execPath(), ["eval", "--no-config", listen]);
  await holder.waitForLine(/^listening$/, 20_000);
  const start = (...args: string[]) => runFlanneld({ ns }, "--etcd-endpoints=127.0.0.1", ...args);
  const taken = await start("--healthz-port=10256");
  assert.equal(taken.code, 1);
  assert.match(
    taken.stderr,
    /^flanneld: .* 0\.0\.0\.0:10256: TCP port 10256 is in use by another program.*--healthz-port/m,
  );
  const absent = await start("--healthz-port=10257", "--healthz-ip=192.0.2.7");
  assert.equal(absent.code, 1);
  assert.match(absent.stderr, /192\.0\.2\.7:10257: this host does not have .*--healthz-ip/);
});

/** A metric's value in the text format. */
function metric(body: string, name: string): number {
  const line = body.split("\n").find((line) => line.startsWith(`${name} `));
  assert.ok(line, `${name} in:\n${body}`);
  return Number(line.slice(name.length + 1));
}
