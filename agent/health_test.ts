import assert from "node:assert/strict";
import { answer } from "./health.ts";
import { Status } from "./status.ts";

Deno.test("readyz follows the state, healthz does not", async () => {
  const status = new Status();
  assert.equal(answer("/healthz", status, "v1").status, 200);
  assert.equal(answer("/readyz", status, "v1").status, 503);
  status.ready = true;
  assert.equal(answer("/readyz", status, "v1").status, 200);
  assert.match(await answer("/nothing", status, "v1").text(), /serves \/healthz/);
});

Deno.test("metrics are Prometheus text: a type and a help line a family, then samples", async () => {
  const status = new Status();
  status.backend = "vxlan";
  status.peers = 4;
  status.leaseExpiration = Infinity;
  status.lastContact = () => 1500;
  const response = answer("/metrics", status, "v1");
  assert.match(response.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).trimEnd().split("\n");
  for (const line of lines) {
    assert.match(
      line,
      /^(# HELP [a-z_]+ .+|# TYPE [a-z_]+ (gauge|counter)|[a-z_]+(\{[^}]*\})? (-?[0-9.e+-]+|\+Inf))$/,
    );
  }
  assert.ok(lines.includes("flanneld_peers 4"));
  assert.ok(lines.includes("flanneld_lease_expiration_time_seconds +Inf"));
  assert.ok(lines.includes("flanneld_etcd_last_contact_time_seconds 1.5"));
  assert.ok(lines.includes('flanneld_backend_errors_total{backend="vxlan"} 0'));
});
