/**
 * The udp backend beside kernel VXLAN, wireguard-go, the Go agent's udp backend and the bare veth,
 * in turns, on one machine.
 *
 * @module
 */
import type { Panel } from "./chart.ts";
import { type Contender, median, type Report, type Row } from "./lib.ts";
import { agentPaths, type Path, PATHS, plainPaths, waitOpen } from "./paths.ts";

const ROUNDS = 3;
const SECONDS = 3;
/** Smallest payload that is measured, in bytes. */
const SMALL = 64;

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
  return await compare(ours, go);
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
