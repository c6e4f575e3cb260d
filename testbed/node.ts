/**
 * A host of a cluster: its agent and its containers.
 *
 * @module
 */
import { releaseFolder } from "../tools/lib.ts";
import type { Etcd } from "./etcd.ts";
import { type CommandOptions, type NetNs, type Process, run, waitFor } from "./netns.ts";

/** The address families of a network, overlay and underlay alike. */
export type Families = "ipv4" | "ipv6" | "dual";

/** One start of an agent. */
export interface AgentStart {
  /** Flags after the cluster's own; of one given twice the last counts. */
  args?: string[];
  env?: Record<string, string>;
  /** Executable in place of the default one. */
  binary?: string;
}

/** An agent that runs; `lines` are its log. */
export type AgentProcess = Process;

/** Starts the built program with `LD_PRELOAD`. */
const PRELOADED = new URL("./preloaded.sh", import.meta.url).pathname;

/** Path of a Go flanneld to mix clusters with, where the environment names one. */
export const GO_FLANNELD = Deno.env.get("GO_FLANNELD");

/** Port of each agent's health server. */
export const HEALTH_PORT = 8081;

/** Bridge of the containers. */
const BRIDGE = "cni0";

/** Milliseconds within which an agent is ready, on a busy machine. */
const READY_LIMIT = 20_000;

const AGENT = `${import.meta.dirname}/../cli/main.ts`;

/** What a host knows of its cluster. */
export interface NodeCluster {
  readonly families: Families;
  readonly options: { agentArgs?: readonly string[] };
  readonly etcd: Etcd;
  /** All leases in etcd, key below the prefix and value. */
  leases(): Promise<Map<string, string>>;
  /** The agent's flags for the cluster's etcd. */
  etcdArgs(): string[];
  namespace(name: string): Promise<NetNs>;
}

/** One host. */
export class Node {
  /** Where its agent writes what the lease is. */
  readonly subnetFile: string;
  /** Addresses on the underlay. */
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  /** The agent started last. */
  agent: AgentProcess | undefined;
  readonly containers: Container[] = [];
  #attached = 0;

  /** @param folder existing folder for the host's files */
  constructor(
    readonly cluster: NodeCluster,
    readonly index: number,
    readonly ns: NetNs,
    readonly folder: string,
  ) {
    this.subnetFile = `${folder}/subnet.env`;
    const own = addresses(cluster.families, 11 + index).map((address) => address.split("/")[0]);
    this.ipv4 = own.find((address) => !address.includes(":"));
    this.ipv6 = own.find((address) => address.includes(":"));
  }

  /**
   * Starts an agent: the built one that `FLANNELD_BIN` names, else this checkout's sources. The
   * process is the agent itself, not a shell around it.
   */
  startAgent({ args = [], env = {}, binary }: AgentStart = {}): AgentProcess {
    const [command, ...first] = binary ? [binary] : this.command();
    const all = [...first, ...this.flags(), ...this.cluster.options.agentArgs ?? [], ...args];
    // The sources take the library from the folder that cargo builds in; a binary has its own.
    const library: Record<string, string> = command === Deno.execPath()
      ? { _FLANNELD_LIB: `${releaseFolder()}/libdataplane.so` }
      : {};
    // The built program's launcher would not pass it on.
    const preloads = "LD_PRELOAD" in env && command !== Deno.execPath();
    const [program, before] = preloads ? [PRELOADED, [command]] : [command, []];
    this.agent = this.ns.spawn(
      program,
      [...before, ...all],
      agentEnvironment({ ...library, ...env }),
    );
    return this.agent;
  }

  /** The agent's command without flags. */
  protected command(): string[] {
    const built = Deno.env.get("FLANNELD_BIN");
    if (built) return [built];
    return [Deno.execPath(), "run", "-A", "--unstable-net", AGENT];
  }

  /** Flags that fit the agent into its host. */
  protected flags(): string[] {
    return [
      ...this.cluster.etcdArgs(),
      `--subnet-file=${this.subnetFile}`,
      `--healthz-port=${HEALTH_PORT}`,
      `--bridge=${BRIDGE}`,
    ];
  }

  /**
   * Waits until the subnet file exists and the agent says it is ready.
   *
   * @throws Error with the agent's log when it ends or `limitMs` milliseconds pass before
   */
  async waitReady(limitMs = READY_LIMIT): Promise<void> {
    const agent = this.agent;
    if (!agent) throw new Error(`no agent was started on ${this.ns.name}`);
    try {
      await waitFor(async () => agent.ended || await this.ready(), {
        limitMs,
        what: `the agent on ${this.ns.name}`,
        intervalMs: 50,
      });
    } catch (error) {
      throw new Error(`${error}:\n${agent.lines.join("\n")}`);
    }
    if (agent.ended) {
      const { code } = await agent.status;
      throw new Error(`the agent ended with status ${code}:\n${agent.lines.join("\n")}`);
    }
  }

  /** Whether the subnet file exists and `/readyz` answers 200. */
  async ready(): Promise<boolean> {
    try {
      await Deno.stat(this.subnetFile);
    } catch {
      return false;
    }
    return (await this.health("/readyz")).status === 200;
  }

  /** Asks the agent's health server; status 0 where none answers. */
  async health(path: string): Promise<{ status: number; body: string }> {
    // bash speaks TCP by itself; nothing else that every host has reaches into a namespace.
    const script = `exec 3<>/dev/tcp/127.0.0.1/${HEALTH_PORT} && ` +
      `printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 cat <&3`;
    const { stdout } = await this.ns.exec("bash", "-c", script);
    const [head, ...rest] = stdout.split("\r\n\r\n");
    const status = Number(/^HTTP\/1\.\d (\d+)/.exec(head)?.[1] ?? 0);
    return { status, body: rest.join("\r\n\r\n") };
  }

  /** The subnet file's keys and values. */
  async env(): Promise<Record<string, string>> {
    const lines = (await Deno.readTextFile(this.subnetFile)).trim().split("\n");
    return Object.fromEntries(lines.map((line) => {
      const at = line.indexOf("=");
      return [line.slice(0, at), line.slice(at + 1)];
    }));
  }

  /**
   * Attaches a container to the host's bridge, with the next free address of the lease, default
   * routes and MTU, as a container runtime does. The agent must be ready.
   */
  async attach(name: string): Promise<Container> {
    const env = await this.env();
    const position = 2 + this.#attached++;
    await this.#ensureBridge(env);
    const ns = await this.cluster.namespace(`node${this.index + 1}-${name}`);
    const port = `veth-${name}`;
    const [mtu, host] = [env.FLANNEL_MTU, ["-n", this.ns.name, "link"]];
    await run("ip", [
      ...["link", "add", "eth0", "netns", ns.name, "mtu", mtu, "type", "veth"],
      ...["peer", "name", port, "mtu", mtu, "netns", this.ns.name],
    ]);
    await run("ip", [...host, "set", port, "master", BRIDGE, "up"]);
    await ns.run("ip", "link", "set", "eth0", "up");
    const container: Container = { name, ns, mtu: Number(mtu), node: this };
    for (const gateway of [env.FLANNEL_SUBNET, env.FLANNEL_IPV6_SUBNET]) {
      if (!gateway) continue;
      const [ip, length] = gateway.split("/");
      const address = beside(ip, position);
      const ipv6 = ip.includes(":");
      await ns.run(
        ...["ip", "address", "add", `${address}/${length}`, "dev", "eth0"] as const,
        ...(ipv6 ? ["nodad"] : []),
      );
      container[ipv6 ? "ipv6" : "ipv4"] = address;
      await defaultRoutes(ns, [ip]);
    }
    this.containers.push(container);
    return container;
  }

  /** Makes the bridge where the agent does not, as a container runtime would. */
  async #ensureBridge(env: Record<string, string>): Promise<void> {
    if ((await this.ns.exec("ip", "link", "show", BRIDGE)).code === 0) return;
    const { ns } = this;
    await ns.run("ip", "link", "add", BRIDGE, "mtu", env.FLANNEL_MTU, "type", "bridge");
    await ns.run("ip", "link", "set", BRIDGE, "up");
    for (const gateway of [env.FLANNEL_SUBNET, env.FLANNEL_IPV6_SUBNET]) {
      if (!gateway) continue;
      const nodad = gateway.includes(":") ? ["nodad"] : [];
      await ns.run("ip", "address", "add", gateway, "dev", BRIDGE, ...nodad);
    }
  }
}

/** A host that runs the Go agent at {@linkcode GO_FLANNELD}, for clusters of both kinds. */
export class GoNode extends Node {
  protected override command(): string[] {
    if (!GO_FLANNELD) throw new Error("GO_FLANNELD names no Go flanneld");
    return [GO_FLANNELD];
  }

  protected override flags(): string[] {
    return super.flags().filter((flag) => !flag.startsWith("--bridge="));
  }
}

/** A namespace on a host's bridge, its device is `eth0`. */
export interface Container {
  name: string;
  ns: NetNs;
  node: Node;
  mtu: number;
  ipv4?: string;
  ipv6?: string;
}

/**
 * Pings `ip` from a namespace until an answer comes.
 *
 * @throws Error with ping's last output after `limitMs` milliseconds
 */
export async function waitReach(ns: NetNs, ip: string, limitMs = 10_000): Promise<void> {
  await waitFor(() => ns.run("ping", "-c1", "-W1", ip), {
    limitMs,
    what: `an answer from ${ip} to ${ns.name}`,
  });
}

/** Underlay addresses with prefix length of the host with this number. */
export function addresses(families: Families, host: number): string[] {
  return [
    ...(families === "ipv6" ? [] : [`192.168.77.${host}/24`]),
    ...(families === "ipv4" ? [] : [`fd77::${host}/64`]),
  ];
}

/** Adds default routes, one gateway a family. */
export async function defaultRoutes(ns: NetNs, gateways: string[]): Promise<void> {
  for (const gateway of gateways) {
    const family = gateway.includes(":") ? "-6" : "-4";
    await ns.run("ip", family, "route", "add", "default", "via", gateway);
  }
}

/** The address at this position of a subnet whose first one, the gateway's, is given. */
function beside(gateway: string, position: number): string {
  return gateway.includes(":")
    ? gateway.replace(/:1$/, `:${position.toString(16)}`)
    : gateway.replace(/\d+$/, (last) => String(Number(last) - 1 + position));
}

/** What of the tests' own environment the agent does not see: flags, AWS, authorities and proxies. */
const HIDDEN = /^(FLANNELD_|AWS_|SSL_CERT_|NODE_|NOTIFY_SOCKET$)|_proxy$/i;

/** The agent's environment: the tests' own but for what would change it, and these variables. */
export function agentEnvironment(env: Record<string, string>): CommandOptions {
  const own = Object.entries(Deno.env.toObject()).filter(([name]) => !HIDDEN.test(name));
  return { env: { ...Object.fromEntries(own), ...env }, clearEnv: true };
}

/** The program under test: the built one, else the sources with the library that cargo built. */
export function flanneldCommand(): string[] {
  const built = Deno.env.get("FLANNELD_BIN");
  if (built) return [built];
  const library = `_FLANNELD_LIB=${releaseFolder()}/libdataplane.so`;
  return ["env", library, Deno.execPath(), "run", "-A", "--unstable-net", AGENT];
}
