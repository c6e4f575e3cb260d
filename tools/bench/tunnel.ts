/**
 * The udp backend beside kernel VXLAN, wireguard-go, the Go agent's udp backend and the bare veth,
 * in turns, on one machine; and its memory with many peers.
 *
 * @module
 */
import { Cluster, HEALTH_PORT } from "../../tests/lib/cluster.ts";
import type { Panel } from "./chart.ts";
import {
  type Contender,
  LARGE_NETWORK,
  median,
  memory,
  pause,
  putPeers,
  type Report,
  type Row,
} from "./lib.ts";
import { agentPaths, type Path, PATHS, plainPaths, waitOpen } from "./paths.ts";

const ROUNDS = 3;
const SECONDS = 3;
/** Smallest payload that is measured, in bytes. */
const SMALL = 64;
const PEERS = 5_000;
/** Memory that only the start used goes back to the kernel within this time. */
const SETTLE_S = 30;
/** MB over the idle agent. */
const MOST_MEMORY = 20;

/** A figure of a path, and what is asked of ours: its ratio to other paths'. */
interface Measure {
  title: string;
  unit: string;
  better: "more" | "less";
  take: (path: Path) => Promise<number>;
  /** Whether the path between unlike agents is measured, too. */
  mixed: boolean;
  goals: Goal[];
}

/** Ratio of one path's figure to another's, at least or, where less is better, at most. */
interface Goal {
  of?: string;
  to: string;
  ratio: number;
  /** Wished for, not required. */
  aim?: true;
}

const TCP_GOALS: Goal[] = [
  { to: PATHS.go, ratio: 15 },
  { to: PATHS.wireguard, ratio: 1.5 },
  { to: PATHS.vxlan, ratio: 0.8, aim: true },
];

const MEASURES: Measure[] = [
  {
    title: "TCP, 1 stream",
    unit: "Gbit/s",
    better: "more",
    take: (path) => tcp(path, 1),
    mixed: true,
    goals: [
      ...TCP_GOALS,
      // The Go agent is the bottleneck, whoever is at the other end.
      { of: PATHS.toGo, to: PATHS.go, ratio: 1 },
      { of: PATHS.fromGo, to: PATHS.go, ratio: 1 },
    ],
  },
  {
    title: "TCP, 4 streams",
    unit: "Gbit/s",
    better: "more",
    take: (path) => tcp(path, 4),
    mixed: false,
    goals: TCP_GOALS,
  },
  {
    title: `UDP, ${SMALL} bytes, received`,
    unit: "thousand packets/s",
    better: "more",
    take: datagrams,
    mixed: false,
    goals: [{ to: PATHS.go, ratio: 3 }, { to: PATHS.vxlan, ratio: 0.8, aim: true }],
  },
  {
    title: "round trip, average",
    unit: "ms",
    better: "less",
    take: roundTrip,
    mixed: false,
    goals: [{ to: PATHS.go, ratio: 1 }, { to: PATHS.go, ratio: 0.4, aim: true }],
  },
];

const UNLIKE = [PATHS.toGo, PATHS.fromGo];

/** See the module. */
export async function tunnel(contenders: Contender[]): Promise<Report> {
  const ours = contenders.find(({ name }) => name === "ours") ?? contenders[0];
  const go = contenders.find(({ name }) => name === "go");
  const last = await memoryRows(ours);
  const { rows, panels } = await compare(ours, go);
  return { rows: [...rows, ...last], panels };
}

async function compare(ours: Contender, go: Contender | undefined): Promise<Report> {
  await using stack = new AsyncDisposableStack();
  const paths = await plainPaths(stack);
  paths.splice(2, 0, ...await agentPaths(stack, [ours, ours], { there: PATHS.ours }));
  if (go) {
    paths.splice(3, 0, ...await agentPaths(stack, [go, go], { there: PATHS.go }));
    const names = { there: PATHS.toGo, back: PATHS.fromGo };
    paths.push(...await agentPaths(stack, [ours, go], names));
  }
  for (const path of paths) await waitOpen(path);
  const samples = new Map(MEASURES.map(({ title }) => [title, {} as Record<string, number[]>]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const { title, take, mixed } of MEASURES) {
      for (const path of paths) {
        if (UNLIKE.includes(path.name) && !mixed) continue;
        (samples.get(title)![path.name] ??= []).push(await take(path));
      }
    }
  }
  return {
    rows: MEASURES.flatMap((measure) => goalRows(measure, samples.get(measure.title)!)),
    panels: MEASURES.map((measure) => panel(measure, samples.get(measure.title)!)),
  };
}

function panel({ title, unit, better }: Measure, samples: Record<string, number[]>): Panel {
  const bars = Object.entries(samples).map(([name, list]) => ({
    name,
    value: median(list),
    ours: name === PATHS.ours,
  }));
  return { title, unit, better, bars };
}

/** A row a goal whose two paths were measured. */
function goalRows(measure: Measure, samples: Record<string, number[]>): Row[] {
  const { title, unit, better, goals } = measure;
  return goals.flatMap(({ of = PATHS.ours, to, ratio, aim }) => {
    if (!(of in samples && to in samples)) return [];
    const [own, peer] = [median(samples[of]), median(samples[to])];
    const reached = own / peer;
    const what = of === PATHS.ours ? title : `${title}, ${of}`;
    return [{
      figure: `${what} (${unit})`,
      ours: own,
      peer,
      peerName: to,
      goal: `${aim ? "aim: " : ""}${better === "more" ? ">=" : "<="} ${ratio}x`,
      met: better === "more" ? reached >= ratio : reached <= ratio,
      samples,
    }];
  });
}

/** What iperf3's report says, the parts used here. */
interface Iperf {
  end: {
    sum: { packets: number; lost_packets: number; seconds: number };
    sum_received: { bits_per_second: number };
  };
}

async function iperf(path: Path, args: string[]): Promise<Iperf["end"]> {
  // A server for one run each: after a flood the last one may still wait for its client.
  await using server = path.to.spawn("iperf3", ["--server", "--one-off", "--forceflush"]);
  await server.waitForLine(/listening/i);
  const limit = `${SECONDS + 15}`;
  const client = ["iperf3", "--client", path.address, "--time", `${SECONDS}`, "--json", ...args];
  try {
    return (JSON.parse(await path.from.run("timeout", limit, ...client)) as Iperf).end;
  } catch (error) {
    throw new Error(`${path.name}: ${error}`);
  }
}

/** Gbit/s as the receiver counts them. */
async function tcp(path: Path, streams: number): Promise<number> {
  return (await iperf(path, ["--parallel", `${streams}`])).sum_received.bits_per_second / 1e9;
}

/** Thousands of small datagrams a second that came to the receiver, which is flooded. */
async function datagrams(path: Path): Promise<number> {
  const { sum } = await iperf(path, ["--udp", "--length", `${SMALL}`, "--bitrate", "0"]);
  return (sum.packets - sum.lost_packets) / sum.seconds / 1000;
}

/** Milliseconds. */
async function roundTrip({ from, address }: Path): Promise<number> {
  const text = await from.run("ping", "-q", "-i", "0.005", "-c", "400", address);
  return Number(/ = [\d.]+\/([\d.]+)\//.exec(text)![1]);
}

/** Resident memory in MB, at rest and after the metrics were read once. */
interface Resident {
  rest: number;
  scraped: number;
}

/** Resident memory of an agent with many peers against one that is alone. */
async function memoryRows(ours: Contender): Promise<Row[]> {
  const settled = await Promise.allSettled([resident(ours, 0), resident(ours, PEERS)]);
  const [few, many] = settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
  const figure = `resident with ${PEERS.toLocaleString("en")} peers`;
  const base = { peerName: "without peers" };
  return [
    {
      ...base,
      figure: `${figure} (MB)`,
      ours: many.rest,
      peer: few.rest,
      goal: `<= ${MOST_MEMORY} MB more`,
      met: many.rest - few.rest <= MOST_MEMORY,
      samples: { many: [many.rest], few: [few.rest] },
    },
    {
      ...base,
      figure: `${figure}, after one look at /metrics (MB)`,
      ours: many.scraped,
      peer: few.scraped,
      goal: "",
      met: undefined,
      samples: { many: [many.scraped], few: [few.scraped] },
    },
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
  const { body } = await node.health("/metrics");
  const there = Number(/^flanneld_peers (\d+)$/m.exec(body)?.[1]);
  if (there !== peers) throw new Error(`${peers} peers were to be there, not ${there}`);
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
