/**
 * A container runtime's side of CNI on a host that is a namespace: `cnitool`, and calls by hand with
 * what cnitool does not pass.
 *
 * @module
 */
import { CNI_TOOLS } from "./go_tools.ts";
import { flanneldCommand } from "./node.ts";
import { exec, type NetNs, type Output, randomSuffix } from "./netns.ts";

/** Debian's plugins. */
export const DEBIAN_PLUGINS = "/usr/lib/cni";

/** Where cnitool keeps results. */
const RESULTS = "/var/lib/cni/results";

/** What a result of ADD has. */
export interface CniResult {
  cniVersion: string;
  interfaces: { name: string; mac: string; mtu?: number; sandbox?: string }[];
  ips: { address: string; gateway: string; interface: number; version?: string }[];
  routes: { dst: string; gw?: string }[];
}

/** What a call by hand left: its exit status, and what it printed as JSON. */
export interface Answer {
  code: number;
  answer: Record<string, unknown> & { code?: number; msg?: string };
}

/** One network of a host's runtime. */
export class CniHost implements AsyncDisposable {
  /** Of the network, so that no other run's results are met. */
  readonly network = `fl${randomSuffix()}`;
  readonly dataDir: string;
  readonly ipamDir: string;
  readonly #bin: string;

  private constructor(
    readonly ns: NetNs,
    readonly folder: string,
    readonly subnetFile: string,
    readonly plugins: string[],
  ) {
    this.#bin = `${folder}/bin`;
    this.dataDir = `${folder}/data`;
    this.ipamDir = `${folder}/ipam`;
  }

  /**
   * Makes a folder with the program as `flannel`.
   *
   * @param plugins further folders with plugins
   */
  static async create(
    ns: NetNs,
    { folder, subnetFile, plugins = [] }: {
      folder: string;
      subnetFile: string;
      plugins?: string[];
    },
  ): Promise<CniHost> {
    const host = new CniHost(ns, `${folder}/cni`, subnetFile, plugins);
    await Deno.mkdir(host.#bin, { recursive: true });
    const built = Deno.env.get("FLANNELD_BIN");
    if (built) {
      await Deno.symlink(await Deno.realPath(built), `${host.#bin}/flannel`);
    } else {
      const script = `#!/bin/sh\nexec ${flanneldCommand().join(" ")} cni\n`;
      await Deno.writeTextFile(`${host.#bin}/flannel`, script, { mode: 0o755 });
    }
    return host;
  }

  /** CNI_PATH. */
  get path(): string {
    return [this.#bin, ...this.plugins].join(":");
  }

  /** Path of the program under the plugin's name. */
  get program(): string {
    return `${this.#bin}/flannel`;
  }

  /** The plugin's config, with `more` of its keys. */
  config(cniVersion: string, more: Record<string, unknown> = {}): Record<string, unknown> {
    const { network: name, subnetFile, dataDir, ipamDir } = this;
    const ipam = { dataDir: ipamDir };
    return { cniVersion, name, type: "flannel", subnetFile, dataDir, ipam, ...more };
  }

  /** Writes the network's config for cnitool. */
  async configure(cniVersion: string, more: Record<string, unknown> = {}): Promise<void> {
    const { cniVersion: version, name, ...plugin } = this.config(cniVersion, more);
    await Deno.writeTextFile(
      `${this.folder}/${this.network}.conflist`,
      JSON.stringify({ cniVersion: version, name, plugins: [plugin] }),
    );
  }

  /** Runs cnitool for the container `pod`. */
  cnitool(command: "add" | "check" | "del" | "gc" | "status", pod: NetNs): Promise<Output> {
    const netns = `/run/netns/${pod.name}`;
    const env = [`NETCONFPATH=${this.folder}`, `CNI_PATH=${this.path}`];
    return this.ns.exec("env", ...env, `${CNI_TOOLS}/cnitool`, command, this.network, netns);
  }

  /** As {@linkcode cnitool}, a failure being an error; gives the result of `add`. */
  async must(command: "add" | "check" | "del" | "gc" | "status", pod: NetNs): Promise<CniResult> {
    const { code, stdout, stderr } = await this.cnitool(command, pod);
    if (code !== 0) throw new Error(`cnitool ${command}: status ${code}\n${stdout}${stderr}`);
    return (command === "add" ? JSON.parse(stdout) : {}) as CniResult;
  }

  /** Calls the plugin itself. */
  async call(
    command: string,
    config: unknown,
    env: Record<string, string> = {},
  ): Promise<Answer> {
    const { code, stdout, stderr } = await this.callRaw(command, config, env);
    try {
      return { code, answer: stdout === "" ? {} : JSON.parse(stdout) };
    } catch {
      throw new Error(`${command} printed no JSON:\n${stdout}${stderr}`);
    }
  }

  /** As {@linkcode call}, with both outputs as they are. */
  async callRaw(
    command: string,
    config: unknown,
    env: Record<string, string> = {},
  ): Promise<Output> {
    const input = `${this.folder}/input`;
    await Deno.writeTextFile(input, typeof config === "string" ? config : JSON.stringify(config));
    const all = { CNI_COMMAND: command, CNI_PATH: this.path, ...env };
    return await this.ns.exec(
      "env",
      ...Object.entries(all).map(([name, value]) => `${name}=${value}`),
      "sh",
      "-c",
      `exec ${this.program} < ${input}`,
    );
  }

  /** Variables of a call for a container. */
  container(containerId: string, pod: NetNs, ifname = "eth0"): Record<string, string> {
    return {
      CNI_CONTAINERID: containerId,
      CNI_NETNS: `/run/netns/${pod.name}`,
      CNI_IFNAME: ifname,
    };
  }

  /** What ADD left that DEL has to remove: files, host devices, rules; empty after a clean DEL. */
  async leftovers(): Promise<string[]> {
    const names = async (folder: string, wanted: RegExp) => {
      const { stdout } = await exec("ls", ["-A", folder]);
      return stdout.split("\n").filter((name) => wanted.test(name));
    };
    const lines = async (wanted: RegExp, cmd: string, ...args: string[]) => {
      const text = await this.ns.run(cmd, ...args);
      return text.split("\n").filter((line) => wanted.test(line));
    };
    return [
      ...await names(this.dataDir, /./),
      ...await names(`${this.ipamDir}/${this.network}`, /^(\d+\.|[0-9a-f]+:)/),
      ...await names(RESULTS, new RegExp(`^${this.network}-`)),
      ...await lines(/veth/, "ip", "-o", "link"),
      ...await lines(/CNI-/, "iptables-save", "-t", "nat"),
      ...await lines(/CNI-/, "ip6tables-save", "-t", "nat"),
    ];
  }

  /** Forgets what cnitool keeps of the network, as a machine does that lost its power. */
  async loseResults(): Promise<void> {
    for await (const { name } of Deno.readDir(RESULTS)) {
      if (name.startsWith(`${this.network}-`)) await Deno.remove(`${RESULTS}/${name}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.loseResults().catch(() => {});
  }
}
