/**
 * What the routes are made of: the node's network interface and the route tables. Found at the start,
 * looked at again now and then, and packets of containers let through that interface.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Ec2Fault } from "./faults.ts";
import { type AttachedEni, SourceDestCheck } from "./source_dest_check.ts";
import { NodeTables } from "./tables.ts";
import type { Ec2, Eni, RouteTable } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Every so many looks one is at the network interface, too. */
const LOOKS = 6;

/** Milliseconds after which EC2 should know a new instance. */
const INSTANCE_GRACE = 30_000;

/** Interfaces that an error names. */
const MOST_NAMED = 3;

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
  #attached: AttachedEni;
  readonly #check: SourceDestCheck;
  /** Whether the source/dest check was seen to. */
  #seenTo = false;
  readonly tables: NodeTables;
  #fault: Ec2Fault | undefined;

  private constructor(
    readonly ec2: Ec2,
    readonly input: PlaceInput,
    attached: AttachedEni,
  ) {
    this.#attached = attached;
    this.#check = new SourceDestCheck(ec2);
    this.tables = new NodeTables(ec2, input.tableIds);
  }

  /** Finds the network interface. */
  static async find(ec2: Ec2, input: PlaceInput): Promise<Place> {
    const found = await findEni(ec2, input);
    log.info("Found {eni} that has {ip} IP address.", { eni: found.eni.id, ip: input.ip });
    return new Place(ec2, input, found);
  }

  get eniId(): string {
    return this.eni.id;
  }

  get eni(): Eni {
    return this.#attached.eni;
  }

  /** What kept the last look from the network interface; the tables were read all the same. */
  get fault(): Ec2Fault | undefined {
    return this.#fault;
  }

  /**
   * The tables as they are now. The first time packets are let through, too; later it makes two
   * calls at most, and one at most times. What a look was due to do and could not is due again at the
   * next one.
   *
   * @throws {ConfigError} the first time, where the config names tables and none is of the VPC
   */
  async look(): Promise<RouteTable[]> {
    if (!this.#seenTo) {
      await this.#check.switchOff(this.#attached);
      this.#seenTo = true;
    }
    const look = this.tables.last === undefined ? 0 : this.#looks + 1;
    this.#fault = undefined;
    try {
      if (look % LOOKS === LOOKS / 2) await this.#lookAtEni();
      // Once it is refused, a look of its own, so that each makes two calls at most.
      if (look % LOOKS === 1 && this.#check.isRefused(this.eniId)) {
        await this.#check.ensureOff(this.#attached);
      }
    } catch (error) {
      if (!(error instanceof Ec2Fault) || error.kind === "throttled") throw error;
      this.#fault = error;
    }
    const tables = await this.tables.look(this.eni);
    if (this.#fault === undefined) this.#looks = look;
    return tables;
  }

  /** The routes of the same tables as they are now, by one call. */
  async lookAgain(): Promise<RouteTable[]> {
    const tables = await this.tables.lookAgain();
    return tables.length > 0 ? tables : await this.look();
  }

  /** The address may have moved to another interface, and the check been switched on. */
  async #lookAtEni(): Promise<void> {
    const was = this.eniId;
    this.#attached = await findEni(this.ec2, this.input);
    if (this.eniId === was) {
      if (!this.#check.isRefused(was) || !this.eni.sourceDestCheck) {
        await this.#check.ensureOff(this.#attached);
      }
      return;
    }
    log.warn("{ip} has moved from {was} to {eni}", { ip: this.input.ip, was, eni: this.eniId });
    await this.#check.switchOff(this.#attached);
  }
}

/** The network interface that holds the address, and how many more its instance has. */
export async function findEni(
  ec2: Ec2,
  { instanceId, ip }: Pick<PlaceInput, "instanceId" | "ip">,
): Promise<AttachedEni> {
  const there = instanceId === undefined
    ? await ec2.enisWithAddress(ip)
    : await ec2.enisOfInstance(instanceId);
  const holders = there.filter(({ addresses }) => addresses.includes(ip));
  if (holders.length === 1) return { eni: holders[0], siblings: there.length - 1 };
  const fault = (message: string, grace?: number) =>
    new Ec2Fault("refused", "DescribeInstances", "NoInterface", message, { grace });
  if (instanceId === undefined) throw fault(notUnique(ip, holders));
  if (there.length > 0) {
    throw fault(
      `no network interface of ${instanceId} has the address ${ip}: name the interface that has ` +
        "one of the VPC's addresses with --iface",
    );
  }
  throw fault(
    `EC2 has no instance ${instanceId} in this region and account: check AWS_REGION and which ` +
      "account the credentials belong to",
    INSTANCE_GRACE,
  );
}

/** Without an instance id, only the address identifies the interface. */
function notUnique(ip: string, holders: readonly Eni[]): string {
  const named = holders.slice(0, MOST_NAMED).map(({ id, vpcId }) => `${id} in ${vpcId}`).join(", ");
  const found = holders.length === 0
    ? `no instance of this region and account has the address ${ip}`
    : `${holders.length} network interfaces of this region have the address ${ip} (${named}${
      holders.length > MOST_NAMED ? ", …" : ""
    })`;
  return `${found}: switch the instance metadata service on, so that the instance is known`;
}
