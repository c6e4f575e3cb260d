/**
 * `flanneld doctor`: examines this node, the store and the way to the peers for the configured
 * backend, changes nothing, and says what to mend.
 *
 * First comes what the rest is made from: the agent, etcd, the network config and the interface. What
 * of that is missing is a finding, and what rests on it is left out. The other checks run side by
 * side; one that fails or hangs is a finding, too.
 *
 * @module
 */
import { withNodeState } from "../agent/node_state.ts";
import type { AgentOptions } from "../agent/options.ts";
import { readSubnetFile } from "../agent/subnet_file.ts";
import { fail, type Finding, pass, warn } from "../backends/finding.ts";
import { loadBackend } from "../backends/registry.ts";
import type { Backend, BackendModule, PublicInterface, Skipped } from "../backends/types.ts";
import { DataPlane } from "../dataplane/mod.ts";
import type { KernelState } from "../dataplane/state.ts";
import {
  addressOnlyFindings,
  otherAgentFindings,
  overlapFindings,
  reversePathFindings,
} from "../hostcheck/mod.ts";
import type { Cidr } from "../base/cidr.ts";
import type { NetworkConfig } from "../subnet/config.ts";
import type { StoredLease } from "../subnet/etcd/store.ts";
import type { Lease } from "../subnet/types.ts";
import { PeerTable } from "../subnet/validate.ts";
import { trafficRules } from "../traffic/mod.ts";
import { examineAgent } from "./agent.ts";
import { type Check, type Entry, run } from "./check.ts";
import { examineInterface } from "./interface.ts";
import { examineForwarding, examineKernel } from "./kernel.ts";
import { examineLease, examineSubnetFile, ownLease } from "./lease.ts";
import { examinePeers } from "./peers.ts";
import { examineRules } from "./rules.ts";
import { examineConfig, examineStore, type StoreFacts } from "./store.ts";

/** Milliseconds for etcd. */
const STORE_LIMIT = 6_000;
/** Milliseconds for what a backend asks of elsewhere, for the peers and for several tools. */
const LONG = 8_000;

/** What the checks are made from. */
interface Ground {
  options: AgentOptions;
  dataplane: DataPlane;
  isRunning: boolean;
  store: StoreFacts;
  network: NetworkConfig;
  iface: PublicInterface;
}

/** What the backend would do with it. */
interface Plan extends Ground {
  module: BackendModule;
  backend: Backend;
  stored: StoredLease | undefined;
  lease: Lease | undefined;
  peers: Lease[];
  skipped: Skipped[];
  kernel: KernelState;
}

/** Examines the node; takes 15 s at most. */
export async function* examineNode(options: AgentOptions): AsyncGenerator<Entry> {
  let dataplane: DataPlane;
  try {
    dataplane = DataPlane.open(options.libraryPath);
  } catch (error) {
    yield { ...fail("data plane", (error as Error).message), area: "capabilities" };
    return;
  }
  const ground = yield* groundOf(options, dataplane);
  using _store = ground?.store;
  const plan = ground && (yield* planOf(ground));
  const checks = plan === undefined ? [] : checksOf(plan);
  for (const found of checks.map(run)) yield* await found;
  dataplane.close();
}

/** What everything rests on; undefined where some of it is missing. */
async function* groundOf(
  options: AgentOptions,
  dataplane: DataPlane,
): AsyncGenerator<Entry, Ground | undefined> {
  const known: Partial<Ground> = {};
  const early = [
    run({ area: "capabilities", run: () => examineCapabilities(dataplane) }),
    run({
      area: "agent",
      async *run() {
        known.isRunning = yield* examineAgent(options);
      },
    }),
    run({
      area: "etcd",
      limitMs: STORE_LIMIT,
      async *run() {
        known.store = yield* examineStore(options.store);
      },
    }),
  ];
  for (const found of early) yield* await found;
  if (known.store !== undefined) {
    const { snapshot } = known.store;
    yield* await run({
      area: "config",
      async *run() {
        known.network = yield* examineConfig(snapshot, options.store.prefix);
      },
    });
  }
  yield* await run({
    area: "interface",
    async *run() {
      const choice = yield* examineInterface(options.interface, known.network, dataplane);
      known.iface = choice?.view;
    },
  });
  const { isRunning = false, store, network, iface } = known;
  if (store === undefined || network === undefined || iface === undefined) {
    const missing = network === undefined ? "the network config" : "a public interface";
    const detail = `lease, devices, rules and peers are not checked without ${missing}`;
    yield { ...warn("not checked", detail), area: "doctor" };
    store?.[Symbol.dispose]();
    return undefined;
  }
  return { options, dataplane, isRunning, store, network, iface };
}

async function* examineCapabilities(dataplane: DataPlane): AsyncGenerator<Finding> {
  const missing = await Promise.resolve(dataplane.missingCapabilities());
  yield missing.length === 0 ? pass("capabilities", "CAP_NET_ADMIN and CAP_NET_RAW") : fail(
    "capabilities",
    `${missing.join(" and ")} missing: flanneld cannot set up networking, and doctor sees less`,
    "run as root or with CAP_NET_ADMIN and CAP_NET_RAW",
  );
}

/** What should be there, as the agent would work it out. */
async function* planOf(ground: Ground): AsyncGenerator<Entry, Plan | undefined> {
  let plan: Plan | undefined;
  yield* await run({
    area: "backend",
    // Only what fails is told: the plan itself is no news.
    async *run() {
      plan = await makePlan(ground);
      yield* [];
    },
  });
  return plan;
}

async function makePlan(ground: Ground): Promise<Plan> {
  const { options, dataplane, store, network, iface } = ground;
  const { leases } = store.snapshot;
  const stored = ownLease(store, iface, options.subnetFile);
  const lease = stored?.lease ?? undefined;
  const refused: Skipped[] = [];
  const table = new PeerTable(network, lease ?? nobody(iface), (key, reason) => {
    if (reason !== undefined) refused.push({ key, reason });
  });
  table.replace(leases.filter(({ key }) => key !== stored?.key));
  const peers = [...table.peers().values()];
  const module = await loadBackend(network);
  const existing = await dataplane.interfaces();
  const older = leases.filter(({ created }) => stored === undefined || created < stored.created)
    .flatMap(({ lease }) => lease ?? []);
  const backend = module.create({ network, iface, existing, former: lease, older });
  const ips = peers.flatMap(({ attrs: { publicIP, publicIPv6 } }) =>
    [publicIP, publicIPv6].filter((ip) => ip !== null)
  );
  const routes = new Map(dataplane.routesTo(ips).map((route, at) => [ips[at], route]));
  const { kernel, skipped } = backend.state(
    lease ?? nobody(iface),
    peers,
    (ip) => routes.get(ip),
  );
  const node = { ...options, mtu: backend.mtu };
  return {
    ...{ ...ground, module, backend, stored, lease, peers },
    skipped: [...refused, ...skipped],
    kernel: lease ? withNodeState(kernel, lease, node) : kernel,
  };
}

/** In place of a lease of this node, where there is none. */
function nobody({ publicIP, publicIPv6 }: PublicInterface): Lease {
  const attrs = { publicIP, publicIPv6, backendType: "" };
  return { key: "", subnet: null, ipv6Subnet: null, attrs, expiration: null, revision: "0" };
}

function checksOf(plan: Plan): Check[] {
  const { options, dataplane, isRunning, store, network, iface, backend, lease, stored } = plan;
  const expected = { isRunning, hasLease: lease !== undefined };
  const hasSubnetFile = readSubnetFile(options.subnetFile) !== undefined;
  const { bridge } = options;
  const devs = [...backend.devices, iface.name, ...bridge ? [bridge] : []];
  const families = { ipv4: network.ipv4 !== null, ipv6: network.ipv6 !== null };
  const checks: (Check | false)[] = [
    { area: "agent", run: () => each(otherAgentFindings(plan, dataplane)) },
    { area: "interface", run: () => each(addressOnlyFindings(plan, dataplane)) },
    {
      area: "lease",
      run: () => examineLease({ stored, iface, isRunning, hasSubnetFile, store }),
    },
    {
      area: "subnet file",
      run: () => examineSubnetFile(options.subnetFile, { network, backend, lease, isRunning }),
    },
    { area: "kernel", run: () => examineKernel(plan.kernel, expected, dataplane) },
    plan.module.examine !== undefined && {
      area: backend.type,
      limitMs: LONG,
      run: () => plan.module.examine!({ ...plan, host: dataplane }),
    },
    backend.type !== "alloc" && {
      area: "forwarding",
      run: () => examineForwarding({ devs, ...families }, dataplane),
    },
    { area: "rules", limitMs: LONG, run: () => rules(plan, expected) },
    { area: "overlap", run: () => each(overlapFindings(plan, dataplane)) },
    { area: "rp_filter", run: () => each(reversePathFindings(plan, dataplane)) },
    {
      area: "peers",
      limitMs: LONG,
      run: () => examinePeers({ ...plan, port: portOf(plan.kernel) }, dataplane),
    },
  ];
  return checks.filter((check) => check !== false);
}

async function* each(findings: Promise<Finding[]>): AsyncGenerator<Finding> {
  yield* await findings;
}

function portOf({ tunnel, links }: KernelState): number | undefined {
  return tunnel?.port ?? links.find((link) => link.kind === "vxlan")?.port;
}

async function* rules(
  { options, network, lease }: Plan,
  expected: { isRunning: boolean; hasLease: boolean },
): AsyncGenerator<Finding> {
  if (lease === undefined) return;
  const { ipMasq, randomFully, forwardRules } = options.traffic;
  const family = (half: { network: Cidr } | null, subnet: Cidr | null) =>
    half && subnet && { network: `${half.network}`, subnet: `${subnet}` };
  const wanted = trafficRules({
    ipv4: family(network.ipv4, lease.subnet),
    ipv6: family(network.ipv6, lease.ipv6Subnet),
    // The agent may masquerade by a flag that is not given here.
    ipMasq: ipMasq || readSubnetFile(options.subnetFile)?.get("FLANNEL_IPMASQ") === "true",
    ...{ randomFully, forwardRules },
  });
  yield* examineRules(network.enableNFTables ? "nftables" : "iptables", wanted, expected);
}
