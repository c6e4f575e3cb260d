/**
 * Resident memory of an agent with 5,000 peers on the udp backend over that of one that is alone, at
 * rest and after its metrics were read.
 *
 * @module
 */
import { Cluster, HEALTH_PORT } from "../../testbed/cluster.ts";
import { type Contender, LARGE_NETWORK, median, memory, pause, putPeers, type Row } from "./lib.ts";

const PEERS = 5_000;
/** Memory that only the start used goes back to the kernel within this time. */
const SETTLE_S = 30;
/** MB over the idle agent. */
const MOST_MEMORY = 20;

/** Looks at the metrics, as of a Prometheus. */
const SCRAPES = 10;
const SCRAPE_EVERY_S = 2;

/** Resident memory in MB, at rest and after the metrics were read. */
interface Resident {
  rest: number;
  scraped: number;
}

/** See the module. */
export async function manyPeers([ours]: Contender[]): Promise<Row[]> {
  const settled = await Promise.allSettled([resident(ours, 0), resident(ours, PEERS)]);
  const [few, many] = settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
  const figure = `resident with ${PEERS.toLocaleString("en")} peers`;
  const compared = (name: string, value: number): Row => ({
    figure: name,
    ours: value,
    peer: few.rest,
    peerName: "without peers, at rest",
    goal: `<= ${MOST_MEMORY} MB more`,
    met: value - few.rest <= MOST_MEMORY,
    samples: { many: [value], few: [few.rest, few.scraped] },
  });
  return [
    compared(`${figure} (MB)`, many.rest),
    compared(`${figure}, after ${SCRAPES} looks at /metrics (MB)`, many.scraped),
  ];
}

async function resident(contender: Contender, peers: number): Promise<Resident> {
  const network = { ...LARGE_NETWORK, Backend: { Type: "udp" } };
  await using cluster = await Cluster.create({ label: "bmem", nodes: 1, network });
  if (peers > 0) await putPeers(cluster, 0, peers, "udp");
  const node = contender.on(cluster.node(0));
  const { pid } = node.startAgent({ args: [`--healthz-port=${HEALTH_PORT}`] });
  await node.waitReady();
  await pause(SETTLE_S);
  const rest = await look(pid);
  for (let scrape = 0; scrape < SCRAPES; scrape++) {
    const { body } = await node.health("/metrics");
    const there = Number(/^flanneld_peers (\d+)$/m.exec(body)?.[1]);
    if (there !== peers) throw new Error(`${peers} peers were to be there, not ${there}`);
    await pause(SCRAPE_EVERY_S);
  }
  return { rest, scraped: await look(pid) };
}

/** Several looks, since a child that checks traffic rules lives for an instant every 5 s. */
async function look(pid: number): Promise<number> {
  const looks: number[] = [];
  for (let count = 0; count < 5; count++) {
    await pause(1);
    looks.push((await memory(pid)).resident);
  }
  return median(looks);
}
