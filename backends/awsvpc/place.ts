/**
 * What the routes are made of: the node's network interface and the route tables. Found at the start,
 * looked at again now and then, and packets of containers let through that interface.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { advice, Ec2Fault } from "./faults.ts";
import { NodeTables } from "./tables.ts";
import type { Ec2, Eni, RouteTable } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Every so many looks one is at the network interface, too. */
const LOOKS = 6;

/** What tells the node's place. */
export interface PlaceInput {
  /** Undefined where the metadata service is off: then the address must be unique. */
  instanceId: string | undefined;
  /** An address of the node's network interface. */
  ip: string;
  /** Route tables that the config names; none: that of the interface's subnet. */
  tableIds: readonly string[];
}

/** See the module. All calls throw {@linkcode Ec2Fault}. */
export class Place {
  #looks = 0;
  #eni: Eni;
  #siblings: number;
  /** Whether the source/dest check was seen to. */
  #seenTo = false;
  /** The interface whose source/dest check we may not switch off. */
  #refused = "";
  readonly tables: NodeTables;

  private constructor(
    readonly ec2: Ec2,
    readonly input: PlaceInput,
    { eni, siblings }: { eni: Eni; siblings: number },
  ) {
    this.#eni = eni;
    this.#siblings = siblings;
    this.tables = new NodeTables(ec2, input.tableIds);
  }

  /** Finds the network interface. */
  static async find(ec2: Ec2, input: PlaceInput): Promise<Place> {
    const found = await findEni(ec2, input);
    log.info("Found {eni} that has {ip} IP address.", { eni: found.eni.id, ip: input.ip });
    return new Place(ec2, input, found);
  }

  get eniId(): string {
    return this.#eni.id;
  }

  get eni(): Eni {
    return this.#eni;
  }

  /**
   * The tables as they are now. The first time packets are let through, too; later it makes two
   * calls at most, and one at most times.
   *
   * @throws {ConfigError} the first time, where the config names tables and none is of the VPC
   */
  async look(): Promise<RouteTable[]> {
    if (!this.#seenTo) {
      await this.#letForeignThrough();
      this.#seenTo = true;
    }
    const look = this.tables.last === undefined ? 0 : ++this.#looks;
    if (look % LOOKS === LOOKS / 2) await this.#lookAtEni();
    // Once it is refused, a look of its own, so that each makes two calls at most.
    if (look % LOOKS === 1 && this.#refused === this.#eni.id) await this.#letForeignThrough();
    return await this.tables.look(this.#eni);
  }

  /** The tables after something that was not expected of them. */
  lookAgain(): Promise<RouteTable[]> {
    return this.tables.lookAgain();
  }

  /** The address may have moved to another interface, and the check been switched on. */
  async #lookAtEni(): Promise<void> {
    const { eni, siblings } = await findEni(this.ec2, this.input);
    if (eni.id !== this.#eni.id) {
      log.warn("{ip} has moved from {was} to {eni}", {
        ip: this.input.ip,
        was: this.#eni.id,
        eni: eni.id,
      });
    }
    this.#eni = eni;
    this.#siblings = siblings;
    if (this.#refused !== eni.id) await this.#letForeignThrough();
  }

  /** Switches the source/dest check off where it is on; warns, once, where that is refused. */
  async #letForeignThrough(): Promise<void> {
    const { id, sourceDestCheck, instanceId } = this.#eni;
    if (!sourceDestCheck) return;
    // EC2 takes an instance's attribute only where there is one interface that it can be of.
    const target = instanceId !== undefined && this.#siblings === 0
      ? { instanceId }
      : { eniId: id };
    try {
      await this.ec2.forwardForeign(target);
      this.#refused = "";
      log.info("Disabled SourceDestCheck on {id}", { id });
    } catch (error) {
      if (!(error instanceof Ec2Fault) || error.kind !== "unauthorized") throw error;
      if (this.#refused === id) return;
      this.#refused = id;
      log.warn("failed to disable SourceDestCheck on {id}: {reason}, or switch it off by hand", {
        id,
        reason: advice(error),
      });
    }
  }
}

/** The network interface that holds the address, and how many more its instance has. */
export async function findEni(
  ec2: Ec2,
  { instanceId, ip }: Pick<PlaceInput, "instanceId" | "ip">,
): Promise<{ eni: Eni; siblings: number }> {
  const there = instanceId === undefined
    ? await ec2.enisWithAddress(ip)
    : await ec2.enisOfInstance(instanceId);
  const holders = there.filter(({ addresses }) => addresses.includes(ip));
  if (holders.length === 1) return { eni: holders[0], siblings: there.length - 1 };
  throw new Ec2Fault(
    "refused",
    "DescribeNetworkInterfaces",
    "NoInterface",
    instanceId === undefined
      ? `${holders.length} network interfaces of this region have the address ${ip}: switch the ` +
        "instance metadata service on, so that the instance is known"
      : `no network interface of ${instanceId} has the address ${ip}: name the interface that has ` +
        "one of the VPC's addresses with --iface",
  );
}
