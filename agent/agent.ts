/**
 * One node's life: choose the interface, lease a subnet, carry packets to the peers, keep it so.
 *
 * The agent is a loop over sessions. A session has one lease and one backend; it ends when the lease
 * is lost or the public interface changes, and the next begins with what is in the kernel as it
 * stands, so that forwarding goes on meanwhile. Stopping leaves the kernel alone, too, as flannel
 * does: containers keep their network while the agent is exchanged. Only the udp backend's device
 * goes with the process that carries its packets.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { loadBackend, validateBackendConfig } from "../backends/registry.ts";
import type { Backend, BackendModule, PublicInterface } from "../backends/types.ts";
import type { DataPlane, TunnelCounters } from "../dataplane/mod.ts";
import type { Station } from "../dataplane/station.ts";
import { Budget } from "../base/reports.ts";
import { type NetworkConfig, unknownKeyLines } from "../subnet/config.ts";
import { backoff, sleep } from "../base/time.ts";
import type { Lease, SubnetManager } from "../subnet/types.ts";
import { ConfigWatch } from "./config_watch.ts";
import { UsageError } from "./errors.ts";
import type { Faults } from "./faults.ts";
import { FormerFlannel } from "./former_flannel.ts";
import { Forwarding } from "./forwarding.ts";
import { answerQuestions, listen } from "./health.ts";
import { HostWarnings } from "./host_warnings.ts";
import { changeOf, isSameInterface, routersOf } from "./interface.ts";
import { INTERFACE_RETRY, InterfaceKeeper } from "./interface_keeper.ts";
import { changesText } from "./kernel_log.ts";
import type { LeaseFile } from "./lease_file.ts";
import { MemoryKeeper } from "./memory.ts";
import { NodeRules } from "./node_rules.ts";
import { notify } from "./notify.ts";
import type { Carried } from "./peers_report.ts";
import type { AgentOptions } from "./options.ts";
import { PacketForwarding } from "./packet_forwarding.ts";
import type { Status } from "./status.ts";
import { subnetFileText } from "./subnet_file.ts";
import { SubnetFileWriter } from "./subnet_file_writer.ts";
import { VERSION } from "./version.ts";

const log = getLogger(["flanneld", "agent"]);

/** Milliseconds in which several changes of the interface are taken as one. */
const SETTLE = 200;
/** Milliseconds after a flood of changes until the traffic rules are looked at. */
const MISSED_SETTLE = 5_000;
/** Milliseconds before the next session after ones that failed, at most. */
const LONGEST_PAUSE = 60_000;
/** Milliseconds that the first check of the traffic rules may hold up READY. */
const RULES_LIMIT = 5_000;
/** Entries that a line about restored kernel state names. */
const MOST_RESTORED = 3;

/** What the agent works with. */
export interface Parts {
  dataplane: DataPlane;
  manager: SubnetManager;
  leaseFile: LeaseFile;
  station: Station;
  status: Status;
  faults: Faults;
}

/** See the module. */
export class Agent {
  readonly #options: AgentOptions;
  readonly #dataplane: DataPlane;
  readonly #manager: SubnetManager;
  readonly #leaseFile: LeaseFile;
  readonly #station: Station;
  readonly #faults: Faults;
  readonly #signal: AbortSignal;
  readonly #status: Status;
  readonly #packets: PacketForwarding;
  readonly #forwarding: Forwarding;
  readonly #memory: MemoryKeeper;
  readonly #subnetFile: SubnetFileWriter;
  /** Ends the session in progress. */
  #endSession: (reason: string) => void = () => {};
  #iface: PublicInterface | undefined;
  #rechecking: ReturnType<typeof setTimeout> | undefined;
  #rulesDue: ReturnType<typeof setTimeout> | undefined;
  #lastLease: Lease | undefined;
  #rules: NodeRules | undefined;
  #configs: ConfigWatch | undefined;
  /** A session was ready: from here on the agent goes on whatever fails. */
  #wasReady = false;
  readonly #hostWarnings: HostWarnings;
  /** Faults that come and go with what others do to the kernel's tables must not fill the log. */
  readonly #dataPlaneLines = new Budget(16, 1 / 60);
  /** Whoever undoes each healing makes one a second; `flanneld_heals_total` counts them all. */
  readonly #healLines = new Budget(60, 1 / 30);

  constructor(options: AgentOptions, parts: Parts, signal: AbortSignal) {
    const { dataplane, manager, leaseFile, station, status, faults } = parts;
    this.#options = options;
    this.#dataplane = dataplane;
    this.#manager = manager;
    this.#leaseFile = leaseFile;
    this.#station = station;
    this.#status = status;
    this.#faults = faults;
    this.#signal = signal;
    this.#packets = new PacketForwarding((query) => dataplane.packetForwarding(query));
    this.#forwarding = new Forwarding(dataplane, this.#status, () => this.#packets.check());
    this.#hostWarnings = new HostWarnings(dataplane);
    this.#subnetFile = new SubnetFileWriter(options.subnetFile, leaseFile, status);
    this.#status.deviceProblem = (graceMs) => this.#forwarding.devices.problem(graceMs);
    this.#status.lastContact = () => manager.lastContact;
    this.#memory = new MemoryKeeper(() => dataplane.releaseMemory(), signal);
    this.#status.tunnel = () => this.#counters();
  }

  async run(): Promise<void> {
    this.#answer();
    const network = await this.#manager.networkConfig(this.#signal);
    log.info("Found network config - Backend type: {type}", { type: network.backend.type });
    for (const warning of [...unknownKeyLines(network), ...network.warnings]) {
      log.warn("Network config: {warning}", { warning });
    }
    this.#configs = new ConfigWatch(network, validateBackendConfig);
    const module = await loadBackend(network);
    this.#options.backendKnown?.(network.backend.type);
    this.#status.backend = network.backend.type;
    this.#rules = new NodeRules(this.#options, network);
    this.#status.trafficProblem = () => this.#rules?.rules.problem();
    const families = { ipv4: network.ipv4 !== null, ipv6: network.ipv6 !== null };
    const keeper = new InterfaceKeeper(
      this.#options.interface,
      families,
      this.#dataplane,
      this.#signal,
      this.#leaseFile,
    );
    this.#rules.watch(this.#dataplane);
    const events = this.#faults.supervise(
      "the kernel's events",
      () => this.#followEvents(keeper),
      this.#signal,
    );
    const memory = this.#faults.supervise(
      "the memory keeper",
      () => this.#memory.keep(),
      this.#signal,
    );
    const flannel = new FormerFlannel(
      this.#dataplane,
      this.#options.subnetFile,
      this.#leaseFile,
    );
    for (let failures = 0; !this.#signal.aborted;) {
      try {
        await this.#lease(network, module, keeper, flannel);
        failures = 0;
      } catch (error) {
        if (this.#signal.aborted || !this.#wasReady || error instanceof UsageError) throw error;
        this.#faults.note("the session", error);
        await sleep(backoff(failures++, LONGEST_PAUSE), this.#signal);
      }
    }
    await this.#forwarding.close();
    await notify(this.#station, "STOPPING=1");
    await memory;
    this.#dataplane.close();
    await events;
  }

  /** Leases a subnet, and lives with it for a session. */
  async #lease(
    network: NetworkConfig,
    module: BackendModule,
    keeper: InterfaceKeeper,
    flannel: FormerFlannel,
  ): Promise<void> {
    this.#iface = await keeper.next();
    const { publicIP, publicIPv6, addresses: own } = this.#iface;
    await flannel.takeOver(
      this.#iface.name,
      network,
      () => this.#manager.isWrittenByOther(publicIP, publicIPv6, this.#signal),
    );
    await this.#manager.setHost({ own, routers: await routersOf(this.#dataplane) });
    const [{ lease: former, older }, existing] = await Promise.all([
      this.#manager.resume(publicIP, publicIPv6, this.#signal, this.#lastLease),
      this.#dataplane.interfaces(),
    ]);
    const backend = module.create({ network, iface: this.#iface, existing, former, older });
    log.info("{summary}", { summary: backend.summary });
    const lease = await this.#manager.acquire(
      network,
      backend.attrs,
      this.#signal,
      this.#lastLease,
    );
    this.#lastLease = lease;
    // It may have changed while the store did not answer.
    if (!isSameInterface(await keeper.next(), this.#iface)) return;
    if (keeper.isUnsettled) this.#recheck(keeper, INTERFACE_RETRY);
    await this.#session(network, backend, lease);
  }

  /** Lives with a lease until it is lost, the interface changes or the agent stops. */
  async #session(network: NetworkConfig, backend: Backend, lease: Lease): Promise<void> {
    const session = new AbortController();
    const signal = AbortSignal.any([this.#signal, session.signal]);
    this.#endSession = (reason) => {
      if (session.signal.aborted) return;
      log.warn("Restarting the session: {reason}", { reason });
      session.abort();
    };
    this.#status.leaseExpiration = lease.expiration ?? 0;
    const { bridge, blackholeRoute } = this.#options;
    const node = { bridge, blackholeRoute, mtu: backend.mtu };
    this.#wantPackets(network, backend);
    const outside = await backend.outside?.(lease);
    let ready: Promise<void> | undefined;
    const began = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => began.resolve());
    const host = { network, backend, iface: this.#iface!, lease };
    const watching = this.#manager.watch(lease, {
      peers: (peers, mended) => {
        // The next session begins with them.
        if (signal.aborted) return;
        outside?.want(peers);
        const applied = this.#forwarding.want({ backend, lease, peers, mended, node });
        applied.then(() => this.#hostWarnings.want({ ...host, peers }));
        ready ??= Promise.all([
          applied.then(() => this.#deviceWorks(signal)),
          outside && Promise.race([outside.ready, began.promise]),
        ])
          .then(() =>
            signal.aborted ? undefined : this.#ready(network, backend, lease, signal, began.resolve)
          );
      },
      lost: (reason) => this.#endSession(reason),
      clash: (peer) => backend.clash?.(peer),
      config: (raw) => {
        this.#configs?.changed(raw).catch((error) => this.#faults.note("the config watch", error));
      },
    }, signal);
    const keeping = this.#manager.keep(lease, signal);
    // Starting iptables takes longer than all the rest of the start; containers wait for the file.
    const rules = began.promise.then(() =>
      this.#faults.supervise(
        "the traffic rules",
        () => this.#rules!.keep(lease, signal),
        signal,
      )
    );
    const parts = [watching, keeping, rules, outside?.keep(signal)];
    try {
      await Promise.all(parts);
      await ready;
    } catch (error) {
      // The next session must find none of this one's at work.
      session.abort();
      await Promise.allSettled([...parts, ready]);
      throw error;
    }
  }

  /** Packets are forwarded between the bridge, the overlay and the public interface. */
  #wantPackets(network: NetworkConfig, backend: Backend): void {
    const { bridge } = this.#options;
    // alloc's packets are somebody else's matter.
    if (backend.type === "alloc" && !bridge) return;
    this.#packets.want({
      devs: [...backend.devices, this.#iface!.name, ...bridge ? [bridge] : []],
      uplink: this.#iface!.name,
      ipv4: network.ipv4 !== null,
      ipv6: network.ipv6 !== null,
      enable: bridge !== undefined && bridge !== "",
    });
  }

  /** Resolves when the agent's own devices carry packets: containers must not start before. */
  async #deviceWorks(signal: AbortSignal): Promise<void> {
    const { devices } = this.#forwarding;
    if (devices.problem() === undefined) return;
    const which = devices.name === this.#options.bridge ? "bridge" : "backend's device";
    log.warn("Not ready until the {which} works; retrying", { which });
    await devices.working(signal);
    if (!signal.aborted) log.info("The {which} works now", { which });
  }

  /** Counters for a report, whose text is garbage once it is sent. */
  async #counters(): Promise<TunnelCounters | undefined> {
    this.#memory.soon();
    return await this.#dataplane.counters();
  }

  /** The kernel matches the first snapshot: tell container runtimes and the service manager. */
  async #ready(
    network: NetworkConfig,
    backend: Backend,
    lease: Lease,
    signal: AbortSignal,
    began: () => void,
  ): Promise<void> {
    const text = subnetFileText(network, lease, backend.mtu, this.#options.traffic.ipMasq);
    await this.#subnetFile.write(text, signal);
    log.info("Running backend.");
    began();
    // So that READY=1 and /readyz agree; within a limit, since iptables may hang.
    const late = sleep(RULES_LIMIT, signal).catch(() => {});
    await Promise.race([this.#rules!.rules.looked, late]);
    if (signal.aborted) return;
    this.#wasReady = true;
    this.#faults.restart = (reason) => this.#endSession(reason);
    await notify(this.#station, "READY=1");
    this.#hostWarnings.begin();
  }

  /** Answers health checks, scrapes and `flanneld peers`, from now until the process ends. */
  #answer(): void {
    listen(this.#station, this.#options.healthz);
    const report = async (carried: Carried) => {
      const { peersReport } = await import("./peers_report.ts");
      return peersReport(carried, await this.#counters());
    };
    const sources = {
      status: this.#status,
      version: VERSION,
      peers: () => this.#forwarding.carried && report(this.#forwarding.carried),
    };
    this.#faults.supervise(
      "the answers to health checks",
      () =>
        answerQuestions(this.#station, sources, (error) => {
          if (!this.#signal.aborted) this.#faults.note("an answer", error);
        }),
      this.#signal,
    );
  }

  /** Logs what the data plane put right, and follows the public interface. */
  async #followEvents(keeper: InterfaceKeeper): Promise<void> {
    const recheck = () => this.#recheck(keeper, SETTLE);
    for await (const event of this.#dataplane.events()) {
      switch (event.type) {
        case "healed": {
          this.#forwarding.healed(event.report);
          const restored = changesText(event.report, MOST_RESTORED);
          if (restored === "") break;
          this.#status.heals++;
          if (!this.#healLines.take()) break;
          log.warn("Restored kernel state that another program changed: {restored}", { restored });
          break;
        }
        case "link":
          if (keeper.concerns(event.name)) recheck();
          // With a device the kernel drops its routes without a word.
          this.#forwarding.linksChanged();
          break;
        case "address":
          if (keeper.concerns(event.dev)) recheck();
          this.#rules?.rules.addressChanged(event.cidr);
          break;
        case "packetFilter":
          this.#rules?.rules.changed();
          break;
        case "defaultRoute":
          recheck();
          break;
        case "routes":
          this.#forwarding.routesChanged();
          break;
        case "missed":
          recheck();
          this.#forwarding.linksChanged();
          // Each look at the rules starts processes, and a flood may go on for long.
          this.#rulesDue ??= setTimeout(() => {
            this.#rulesDue = undefined;
            this.#rules?.rules.changed();
          }, MISSED_SETTLE);
          break;
        case "tunnel":
          log.warn("Tunnel {message}", { message: event.message });
          if (event.failed) await this.#forwarding.again();
          break;
        case "error":
          if (this.#dataPlaneLines.take()) {
            log.error("Data plane: {message}", { message: event.message });
          }
          break;
      }
    }
    clearTimeout(this.#rechecking);
    clearTimeout(this.#rulesDue);
  }

  /** Looks at the interface again after a time, and as long as time alone may bring another one. */
  #recheck(keeper: InterfaceKeeper, afterMs: number): void {
    this.#rechecking ??= setTimeout(async () => {
      await this.#recheckInterface(keeper);
      this.#rechecking = undefined;
      if (keeper.isUnsettled && !this.#signal.aborted) this.#recheck(keeper, INTERFACE_RETRY);
    }, afterMs);
  }

  /** Begins a new session if the interface is another now; waits while there is none. */
  async #recheckInterface(keeper: InterfaceKeeper): Promise<void> {
    if (this.#signal.aborted || this.#iface === undefined) return;
    try {
      const now = await keeper.next();
      if (isSameInterface(now, this.#iface)) return;
      this.#endSession(changeOf(this.#iface, now));
      if (now.ip !== this.#iface.ip || now.ipv6 !== this.#iface.ipv6) this.#manager.reconnect();
    } catch (error) {
      if (!this.#signal.aborted) log.error("{error}", { error: String(error) });
    }
  }
}
