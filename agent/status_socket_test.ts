import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { PeersReport } from "./peers_report.ts";
import { askStatus, serveStatus } from "./status_socket.ts";

const path = () => `\0flanneld/test-${randomUUID()}`;

Deno.test("who asks gets the report, however long it is, until the end", async () => {
  const report: PeersReport = {
    backend: "udp",
    node: { subnet: "10.1.0.0/24", ipv6Subnet: null, publicIP: "192.0.2.1", publicIPv6: null },
    peers: Array.from({ length: 5000 }, (_, index) => ({
      subnet: `10.${1 + (index >> 8)}.${index & 255}.0/24`,
      ipv6Subnet: null,
      publicIP: "192.0.2.2",
      publicIPv6: null,
      skipped: "its backend is “other”",
      sent: null,
      received: null,
      dropped: null,
    })),
    tunnel: null,
  };
  const stop = new AbortController();
  const at = path();
  serveStatus(() => Promise.resolve(report), stop.signal, at);
  // One that asks and never reads keeps no other from its answer.
  const silent = await Deno.connect({ transport: "unix", path: at });
  assert.deepEqual(await Promise.all([askStatus(at), askStatus(at)]), [report, report]);
  silent.close();
  stop.abort();
  await assert.rejects(askStatus(at), /^Error: (no flanneld runs|flanneld is not ready)/);
});

Deno.test("an answer that fails is told in one line", async () => {
  const stop = new AbortController();
  const at = path();
  serveStatus(() => Promise.reject(new Error("closed")), stop.signal, at);
  await assert.rejects(askStatus(at), /runs on this node and does not tell/);
  stop.abort();
});
