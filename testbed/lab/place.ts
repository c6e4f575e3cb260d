/**
 * Where the lab is held: the machines nodea and nodeb in one VPC subnet, each on a port of the
 * router between them, which is all that a packet from one to the other can go through.
 *
 * @module
 */
import { Machine } from "../machine.ts";
import { NetNs, veth } from "../netns.ts";
import type { Terminal } from "../terminal.ts";
import { writeImage } from "./image.ts";

/** Backends that the lab is held with. */
export const BACKENDS = ["aws-vpc", "vxlan", "udp"] as const;
export type BackendName = typeof BACKENDS[number];

/** The lab's nodes. */
export const NODES = ["nodea", "nodeb"] as const;
export type NodeName = typeof NODES[number];

/** The nodes' addresses in the lab's VPC subnet. */
export const NODE_IPS: Record<NodeName, string> = {
  nodea: "172.31.28.198",
  nodeb: "172.31.30.148",
};

/** The subnet's router. */
export const ROUTER_IP = "172.31.16.1";

/** Prefix length of the subnet. */
const SUBNET_LENGTH = 20;

/** Bytes; that of EC2's network interfaces. */
export const EC2_MTU = 9001;

/** Where the user has the program, as in a checkout that was built there. */
const PROGRAM = "/home/ubuntu/flanneld/dist/flanneld";

/** Where the machines have their image. */
export const IMAGE = "/srv/busybox.tar";

/** One node of the lab. */
export class LabNode {
  readonly ip: string;
  readonly #terminals = new Map<string, Terminal>();

  constructor(readonly name: NodeName, readonly machine: Machine) {
    this.ip = NODE_IPS[name];
  }

  get ns(): NetNs {
    return this.machine.ns;
  }

  /** The terminal of this name, opened when it is first asked for. */
  async terminal(name: string): Promise<Terminal> {
    const open = this.#terminals.get(name) ?? await this.machine.terminal();
    this.#terminals.set(name, open);
    return open;
  }
}

/** What {@linkcode Place.create} makes. */
export interface PlaceOptions {
  /** Part of the namespaces' names. */
  label: string;
  /** The built program. */
  binary: string;
  /** Where it is from the start, rather than on nodea alone. */
  installed?: readonly NodeName[];
}

/** See the module. */
export class Place implements AsyncDisposable {
  router!: NetNs;
  readonly nodes = {} as Record<NodeName, LabNode>;
  readonly #parts: AsyncDisposable[] = [];
  #disposing: Promise<void> | undefined;

  private constructor(readonly options: PlaceOptions) {}

  /** Makes router and machines. What is half made is removed. */
  static async create(options: PlaceOptions): Promise<Place> {
    const place = new Place(options);
    try {
      await place.#setUp();
    } catch (error) {
      await place[Symbol.asyncDispose]();
      throw error;
    }
    return place;
  }

  /** Ends all that runs, and removes it: last made, first removed. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposing ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    const errors: unknown[] = [];
    for (const part of this.#parts.reverse()) {
      try {
        await part[Symbol.asyncDispose]();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, `cannot remove the lab: ${errors}`);
  }

  async #setUp(): Promise<void> {
    const { label } = this.options;
    this.router = this.keep(await NetNs.create(`${label}-router`));
    await this.router.sysctl("net.ipv4.ip_forward", 1);
    const folder = await Deno.makeTempDir({ prefix: `fl-${label}-` });
    this.keep({
      [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
    });
    const tar = `${folder}/busybox.tar`;
    await writeImage(tar);
    for (const name of NODES) {
      const ns = this.keep(await NetNs.create(`${label}-${name}`));
      await this.#connect(name, ns);
      const { binary, installed = ["nodea"] } = this.options;
      const files = [
        { from: tar, to: IMAGE },
        ...(installed.includes(name) ? [{ from: binary, to: PROGRAM, mode: "755" }] : []),
      ];
      const machine = await Machine.start(ns, { hostname: name, hosts: NODE_IPS, files });
      this.nodes[name] = new LabNode(name, this.keep(machine));
    }
  }

  /**
   * A port of the router for one node. As in a VPC, the nodes share a subnet but no segment: the
   * router answers for all other addresses of the subnet, and each packet goes through it.
   */
  async #connect(name: NodeName, ns: NetNs): Promise<void> {
    const { router } = this;
    const address = `${NODE_IPS[name]}/${SUBNET_LENGTH}`;
    await veth({ ns: router, dev: name, addresses: [`${ROUTER_IP}/32`] }, {
      ns,
      dev: "eth0",
      addresses: [address],
      via: [ROUTER_IP],
    }, { mtu: EC2_MTU });
    await router.run("ip", "route", "add", NODE_IPS[name], "dev", name);
    await router.sysctl(`net.ipv4.conf.${name}.proxy_arp`, 1);
    await router.sysctl(`net.ipv4.neigh.${name}.proxy_delay`, 0);
    await router.sysctl(`net.ipv4.conf.${name}.send_redirects`, 0);
  }

  /** Removes this part, too, before those that are there. */
  keep<T extends AsyncDisposable>(part: T): T {
    this.#parts.push(part);
    return part;
  }
}
