import assert from "node:assert/strict";
import type { Topic } from "../dataplane/station.ts";
import { answer } from "./health.ts";
import type { PeersReport } from "./peers_report.ts";
import { Status } from "./status.ts";

async function ask(topic: Topic, status: Status, report?: PeersReport) {
  const peers = () => report && Promise.resolve(report);
  const answered = await answer(topic, { status, version: "v1", peers });
  return { status: answered.status, text: [...answered.parts].join("") };
}

Deno.test("readyz follows the state, healthz does not", async () => {
  const status = new Status();
  assert.equal((await ask("health", status)).status, 200);
  assert.equal((await ask("readiness", status)).status, 503);
  status.subnetFileProblem = "cannot write the subnet file /x: it is full";
  const unwritten = await ask("readiness", status);
  assert.equal(
    unwritten.text,
    "flanneld is not ready yet: cannot write the subnet file /x: it is full\n",
  );
  status.ready = true;
  assert.equal((await ask("readiness", status)).status, 200);
  status.trafficProblem = () => "a chain drops packets";
  const lost = await ask("readiness", status);
  assert.equal(lost.status, 503);
  assert.equal(lost.text, "flanneld is not ready: a chain drops packets\n");
});

Deno.test("the report comes in pieces that are whole texts", async () => {
  const status = new Status();
  assert.equal((await ask("peers", status)).text, '{"notReady":true}');
  for (const shift of ["", "x"]) {
    const backend = shift + "😀".repeat(100_000);
    const report: PeersReport = {
      backend,
      node: { subnet: null, ipv6Subnet: null, publicIP: null, publicIPv6: null },
      peers: [],
      tunnel: null,
    };
    const { parts } = await answer("peers", {
      status,
      version: "v1",
      peers: () => Promise.resolve(report),
    });
    const pieces = [...parts];
    assert.ok(pieces.length > 2);
    const coded = new Blob(pieces.map((piece) => new TextEncoder().encode(piece)));
    assert.deepEqual(JSON.parse(await coded.text()), report);
  }
});

Deno.test("metrics are Prometheus text: a type and a help line a family, then samples", async () => {
  const status = new Status();
  status.backend = "vxlan";
  status.peers = 4;
  status.leaseExpiration = Infinity;
  status.lastContact = () => 1500;
  const lines = (await ask("metrics", status)).text.trimEnd().split("\n");
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

Deno.test("the tunnel's counters: a family each, a sample a reason and a peer", async () => {
  const status = new Status();
  status.tunnel = () =>
    Promise.resolve({
      sent: { packets: 7, bytes: 700 },
      received: { packets: 8, bytes: 800 },
      drops: { unknown_sender: 1, spoofed_source: 2 },
      icmpSent: 3,
      peers: {
        endpoint: ["192.0.2.2", "2001:db8::2"],
        sentPackets: [0, 1],
        sentBytes: [10, 10],
        receivedPackets: [5, 5],
        receivedBytes: [50, 51],
        dropped: [2, 2],
      },
    });
  const lines = (await ask("metrics", status)).text.split("\n");
  for (
    const line of [
      "flanneld_tunnel_sent_packets_total 7",
      "flanneld_tunnel_received_bytes_total 800",
      'flanneld_tunnel_peer_sent_packets_total{peer="2001:db8::2"} 1',
      'flanneld_tunnel_peer_received_bytes_total{peer="192.0.2.2"} 50',
      'flanneld_tunnel_peer_dropped_packets_total{peer="192.0.2.2"} 2',
      'flanneld_tunnel_dropped_packets_total{reason="spoofed_source"} 2',
      "flanneld_tunnel_icmp_sent_total 3",
    ]
  ) assert.ok(lines.includes(line), line);
  const types = lines.filter((line) => line.startsWith("# TYPE"));
  assert.equal(new Set(types).size, types.length);
});
