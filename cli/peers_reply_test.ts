import assert from "node:assert/strict";
import type { PeersReport } from "../agent/peers_report.ts";
import { parseReply } from "./peers_reply.ts";

const addresses = {
  subnet: "10.1.2.0/24",
  ipv6Subnet: "fd00:1:0:5::/64",
  publicIP: "192.0.2.1",
  publicIPv6: null,
};
const traffic = { packets: 1, bytes: 20 };
const REPORT: PeersReport = {
  backend: "udp",
  node: addresses,
  peers: [
    { ...addresses, skipped: null, sent: traffic, received: traffic, dropped: 0 },
    { ...addresses, skipped: "its backend is “other”", sent: null, received: null, dropped: null },
  ],
  tunnel: { sent: traffic, received: traffic, drops: { malformed: 3 }, icmpSent: 0 },
};

Deno.test("a report comes out as it went in, without what is not known", () => {
  assert.deepEqual(parseReply(JSON.stringify(REPORT)), REPORT);
  assert.deepEqual(parseReply(JSON.stringify({ ...REPORT, more: [1] })), REPORT);
  assert.equal(parseReply('{"notReady":true}'), "notReady");
});

Deno.test("what is not a report is one line", () => {
  const replies = [
    ...["", "null", "[]", "1", '"x"', "{}", "{", "[".repeat(1e6), '{"tunnel":{}}'],
    ...([
      { peers: {} },
      { peers: [null] },
      { peers: [{}] },
      { peers: new Array(70_000).fill(0) },
      { peers: [{ ...REPORT.peers[0], subnet: "10.1.2.0/33" }] },
      { peers: [{ ...REPORT.peers[0], publicIP: "x\n" }] },
      { peers: [{ ...REPORT.peers[0], sent: { packets: "1", bytes: 2 } }] },
      { peers: [{ ...REPORT.peers[0], dropped: -1 }] },
      { backend: 1 },
      { node: null },
      { tunnel: undefined },
      { tunnel: { ...REPORT.tunnel, drops: [] } },
    ] as const).map((wrong) => JSON.stringify({ ...REPORT, ...wrong })),
  ];
  for (const reply of replies) {
    assert.throws(
      () => parseReply(reply),
      (error: Error) => /^flanneld's answer is not [^\n]{1,1200}$/.test(error.message),
      reply.slice(0, 80),
    );
  }
});

Deno.test("texts cannot give the terminal orders", () => {
  const backend = "\x1b[2J\u202e\n";
  const report = parseReply(JSON.stringify({ ...REPORT, backend })) as PeersReport;
  assert.equal(report.backend, "\\u001b[2J\\u202e\\n");
});
