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
import { setTimeout as delay } from "node:timers/promises";
import { getLogger } from "@logtape/logtape";
import { loadBackend, validateBackendConfig } from "../backends/registry.ts";
import type { Backend, PublicInterface } from "../backends/types.ts";
import { DataPlane, type TunnelCounters } from "../dataplane/mod.ts";
import type { Cidr } from "../subnet/cidr.ts";
import { type NetworkConfig, unknownKeyLines } from "../subnet/config.ts";
import { EtcdSubnetManager } from "../subnet/etcd.ts";
import type { Lease, SubnetManager } from "../subnet/types.ts";
import { createTrafficRules, type TrafficRules, trafficRules } from "../traffic/mod.ts";
import { requireCapabilities } from "./capabilities.ts";
import { ConfigWatch } from "./config_watch.ts";
import { UsageError } from "./errors.ts";
import { FormerFlannel } from "./former_flannel.ts";
import { Forwarding } from "./forwarding.ts";
import { changeOf, isSameInterface } from "./interface.ts";
import { INTERFACE_RETRY, InterfaceKeeper } from "./interface_keeper.ts";
import { LeaseFile, leaseFileOf } from "./lease_file.ts";
import { acquireLock } from "./lock.ts";
import { MemoryKeeper } from "./memory.ts";
import { notify } from "./notify.ts";
import type { AgentOptions } from "./options.ts";
import { PacketForwarding } from "./packet_forwarding.ts";
import { Status } from "./status.ts";
import { previousSubnets, subnetFileText, writeSubnetFile } from "./subnet_file.ts";
import { VERSION } from "./version.ts";

const log = getLogger(["flanneld", "agent"]);

/** Milliseconds in which several changes of the interface are taken as one. */
const SETTLE = 200;
/** Milliseconds after which writing the subnet file is tried again. */
const FILE_RETRY = 2_000;
/** Milliseconds that the first check of the traffic rules may hold up READY. */
const RULES_LIMIT = 5_000;

/**
 * Runs the agent until SIGTERM or SIGINT.
 *
 * @returns the exit status
 * @throws {UsageError} for what waiting does not mend
 */
export async function runAgent(options: AgentOptions): Promise<number> {
  using lock = acquireLock();
  if (lock === undefined) {
    throw new UsageError(
      "another flanneld runs on this node (in this network namespace): stop it first",
    );
  }
  const stop = new AbortController();
  using _signals = onSignals((name) => {
    log.info("Received {name}, stopping; what is in the kernel stays", { name });
    stop.abort();
  });
  using dataplane = DataPlane.open(options.libraryPath);
  requireCapabilities(dataplane);
  const manager = new EtcdSubnetManager({
    ...options.etcd,
    previous: previousSubnets(options.subnetFile),
    memory: new LeaseFile(leaseFileOf(options.subnetFile)),
    renewMarginMinutes: options.renewMarginMinutes,
    subnetTtlSeconds: options.leaseSeconds,
    checkConfig: validateBackendConfig,
  });
  log.info("Created subnet manager: {name}", { name: manager.name });
  try {
    await new Agent(options, dataplane, manager, stop.signal).run();
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    await manager.close();
  }
  log.info("Exiting cleanly...");
  return 0;
}

/** Installs handlers for the signals that stop the agent; disposing removes them. */
function onSignals(handle: (name: string) => void): Disposable {
  const handlers = (["SIGTERM", "SIGINT"] as const).map((name) =>
    [name, () => handle(name)] as const
  );
  for (const [name, handler] of handlers) Deno.addSignalListener(name, handler);
  return {
    [Symbol.dispose]: () => {
      for (const [name, handler] of handlers) Deno.removeSignalListener(name, handler);
    },
  };
}

class Agent {
  readonly #options: AgentOptions;
  readonly #dataplane: DataPlane;
  readonly #manager: SubnetManager;
  readonly #signal: AbortSignal;
  readonly #status = new Status();
  readonly #packets: PacketForwarding;
  readonly #forwarding: Forwarding;
  readonly #memory: MemoryKeeper;
  /** Ends the session in progress. */
  #endSession: (reason: string) => void = () => {};
  #iface: PublicInterface | undefined;
  #rules: TrafficRules | undefined;
  #configs: ConfigWatch | undefined;
  #servesStatus = false;
  /** The data plane tells when traffic rules may have changed. */
  #watchesRules = false;

  constructor(
    options: AgentOptions,
    dataplane: DataPlane,
    manager: SubnetManager,
    signal: AbortSignal,
  ) {
    this.#options = options;
    this.#dataplane = dataplane;
    this.#manager = manager;
    this.#signal = signal;
    this.#packets = new PacketForwarding((query) => dataplane.packetForwarding(query));
    this.#forwarding = new Forwarding(dataplane, this.#status, () => this.#packets.check());
    this.#status.deviceProblem = (graceMs) => this.#forwarding.devices.problem(graceMs);
    this.#status.lastContact = () => manager.lastContact;
    this.#memory = new MemoryKeeper(() => dataplane.releaseMemory(), signal);
    this.#status.tunnel = () => this.#counters();
  }

  async run(): Promise<void> {
    const { healthz } = this.#options;
    if (healthz.port > 0) {
      const { serveHealth } = await import("./health.ts");
      serveHealth(healthz, this.#status, VERSION, this.#signal);
    }
    const network = await this.#manager.networkConfig(this.#signal);
    log.info("Found network config - Backend type: {type}", { type: network.backend.type });
    for (const warning of [...unknownKeyLines(network), ...network.warnings]) {
      log.warn("Network config: {warning}", { warning });
    }
    this.#configs = new ConfigWatch(network);
    const module = await loadBackend(network);
    this.#options.backendKnown?.(network.backend.type);
    this.#status.backend = network.backend.type;
    this.#status.trafficProblem = () => this.#trafficRules(network).problem();
    const families = { ipv4: network.ipv4 !== null, ipv6: network.ipv6 !== null };
    const keeper = new InterfaceKeeper(
      this.#options.interface,
      families,
      this.#dataplane,
      this.#signal,
    );
    this.#watchRules();
    const events = this.#followEvents(keeper);
    const memory = this.#memory.keep();
    const flannel = new FormerFlannel(this.#dataplane, this.#options.subnetFile);
    let lease: Lease | undefined;
    while (!this.#signal.aborted) {
      this.#iface = await keeper.next();
      await flannel.takeOver(this.#iface.name, network);
      const { publicIP, publicIPv6 } = this.#iface;
      const [{ lease: former, older }, existing] = await Promise.all([
        this.#manager.resume(publicIP, publicIPv6, this.#signal, lease),
        this.#dataplane.interfaces(),
      ]);
      const backend = module.create({ network, iface: this.#iface, existing, former, older });
      log.info("{summary}", { summary: backend.summary });
      lease = await this.#manager.acquire(network, backend.attrs, this.#signal, lease);
      // It may have changed while the store did not answer.
      if (!isSameInterface(await keeper.next(), this.#iface)) continue;
      await this.#session(network, backend, lease);
    }
    await this.#forwarding.close();
    await notify("STOPPING=1");
    await memory;
    this.#dataplane.close();
    await events;
  }

  /** Lives with a lease until it is lost, the interface changes or the agent stops. */
  async #session(network: NetworkConfig, backend: Backend, lease: Lease): Promise<void> {
    const session = new AbortController();
    const signal = AbortSignal.any([this.#signal, session.signal]);
    this.#endSession = (reason) => {
      if (session.signal.aborted) return;
      log.warn("Setting up anew: {reason}", { reason });
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
    const watching = this.#manager.watch(lease, {
      peers: (peers) => {
        outside?.want(peers);
        const applied = this.#forwarding.want({ backend, lease, peers, node });
        ready ??= Promise.all([
          applied.then(() => this.#deviceWorks(signal)),
          outside && Promise.race([outside.ready, began.promise]),
        ])
          .then(() =>
            signal.aborted ? undefined : this.#ready(network, backend, lease, signal, began.resolve)
          );
      },
      lost: (reason) => this.#endSession(reason),
      config: (raw) => this.#configs?.changed(raw),
    }, signal);
    const keeping = this.#manager.keep(lease, signal);
    // Starting iptables takes longer than all the rest of the start; containers wait for the file.
    const rules = began.promise.then(() => this.#keepTrafficRules(network, lease, signal));
    await Promise.all([watching, keeping, rules, outside?.keep(signal)]);
    await ready;
  }

  /** Packets are forwarded between the bridge, the overlay and the public interface. */
  #wantPackets(network: NetworkConfig, backend: Backend): void {
    const { bridge } = this.#options;
    // alloc's packets are somebody else's matter.
    if (backend.type === "alloc" && !bridge) return;
    this.#packets.want({
      devs: [...backend.devices, this.#iface!.name, ...bridge ? [bridge] : []],
      ipv4: network.ipv4 !== null,
      ipv6: network.ipv6 !== null,
      enable: bridge !== undefined && bridge !== "",
    });
  }

  /** Resolves when the backend's own device carries packets: containers must not start before. */
  async #deviceWorks(signal: AbortSignal): Promise<void> {
    const { devices } = this.#forwarding;
    if (devices.problem() === undefined) return;
    log.warn("Not ready until the backend's device works; retrying until it does");
    await this.#serveStatus();
    await devices.working(signal);
    if (!signal.aborted) log.info("The backend's device works now");
  }

  #trafficRules(network: NetworkConfig): TrafficRules {
    const { traffic, subnetFile } = this.#options;
    this.#rules ??= createTrafficRules(network.enableNFTables ? "nftables" : "iptables", {
      policy: traffic.forwardPolicy,
      subnetFile,
    });
    return this.#rules;
  }

  /** Counters for a report, whose text is garbage once it is sent. */
  async #counters(): Promise<TunnelCounters | undefined> {
    this.#memory.soon();
    return await this.#dataplane.counters();
  }

  #watchRules(): void {
    try {
      this.#dataplane.watchPacketFilter(this.#options.traffic.resyncSeconds);
      this.#watchesRules = true;
    } catch (error) {
      log.warn("Checking the traffic rules every {seconds} s: {error}", {
        seconds: this.#options.traffic.resyncSeconds,
        error: String(error),
      });
    }
  }

  async #keepTrafficRules(
    network: NetworkConfig,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<void> {
    const { ipMasq, forwardRules, randomFully, resyncSeconds } = this.#options.traffic;
    const family = (of: { network: Cidr } | null, subnet: Cidr | null) =>
      of && subnet && { network: `${of.network}`, subnet: `${subnet}` };
    const wanted = trafficRules({
      ipv4: family(network.ipv4, lease.subnet),
      ipv6: family(network.ipv6, lease.ipv6Subnet),
      ipMasq,
      randomFully,
      forwardRules,
    });
    await this.#trafficRules(network).keep(wanted, resyncSeconds, signal, this.#watchesRules);
  }

  /** The kernel matches the first snapshot: tell container runtimes and the service manager. */
  async #ready(
    network: NetworkConfig,
    backend: Backend,
    lease: Lease,
    signal: AbortSignal,
    began: () => void,
  ): Promise<void> {
    const { subnetFile, traffic } = this.#options;
    const text = subnetFileText(network, lease, backend.mtu, traffic.ipMasq);
    try {
      await this.#writeSubnetFile(text);
    } catch (error) {
      log.error("Cannot write the subnet file {subnetFile}: {error}; trying again until it works", {
        subnetFile,
        error: String(error),
      });
      this.#keepWriting(text, signal).catch(() => {});
    }
    log.info("Running backend.");
    began();
    // So that READY=1 and /readyz agree; within a limit, since iptables may hang.
    const late = delay(RULES_LIMIT, undefined, { signal }).catch(() => {});
    await Promise.race([this.#trafficRules(network).looked, late]);
    if (signal.aborted) return;
    await notify("READY=1");
    await this.#serveStatus();
  }

  async #writeSubnetFile(text: string): Promise<void> {
    const { subnetFile } = this.#options;
    await writeSubnetFile(subnetFile, text);
    log.info("Wrote subnet file to {subnetFile}", { subnetFile });
    this.#status.ready = true;
  }

  /** Writes the subnet file once that works. @throws the signal's reason when it aborts */
  async #keepWriting(text: string, signal: AbortSignal): Promise<void> {
    while (true) {
      await delay(FILE_RETRY, undefined, { signal });
      try {
        return await this.#writeSubnetFile(text);
      } catch {
        // The first failure was told.
      }
    }
  }

  /** Late, as containers need not wait for it. */
  async #serveStatus(): Promise<void> {
    if (this.#servesStatus) return;
    this.#servesStatus = true;
    const [{ peersReport }, { serveStatus }] = await Promise.all([
      import("./peers_report.ts"),
      import("./status_socket.ts"),
    ]);
    serveStatus(
      async () => peersReport(this.#forwarding.carried!, await this.#counters()),
      this.#signal,
    );
  }

  /** Logs what the data plane put right, and follows the public interface. */
  async #followEvents(keeper: InterfaceKeeper): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const recheck = (afterMs = SETTLE) => {
      timer ??= setTimeout(async () => {
        await this.#recheckInterface(keeper);
        timer = undefined;
        if (keeper.isUnsettled && !this.#signal.aborted) recheck(INTERFACE_RETRY);
      }, afterMs);
    };
    for await (const event of this.#dataplane.events()) {
      switch (event.type) {
        case "healed": {
          this.#forwarding.healed(event.report);
          const { added, changed, removed } = event.report;
          if (added + changed + removed === 0) break;
          this.#status.heals++;
          log.warn(
            "Kernel state was changed by someone else and is put right: " +
              "{added} added, {changed} changed, {removed} removed",
            { added, changed, removed },
          );
          break;
        }
        case "link":
          if (keeper.concerns(event.name)) recheck();
          // With a device the kernel drops its routes without a word.
          this.#forwarding.linksChanged();
          break;
        case "address":
          if (keeper.concerns(event.dev)) recheck();
          this.#rules?.addressChanged(event.cidr);
          break;
        case "packetFilter":
          this.#rules?.changed();
          break;
        case "defaultRoute":
          recheck();
          break;
        case "routes":
          this.#forwarding.routesChanged();
          break;
        case "tunnel":
          log.warn("Tunnel {message}", { message: event.message });
          if (event.failed) await this.#forwarding.again();
          break;
        case "error":
          log.error("Data plane: {message}", { message: event.message });
          break;
      }
    }
    clearTimeout(timer);
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
