/**
 * Which route tables are the node's: those that the config names, else the one that the node's VPC
 * subnet follows.
 *
 * As a rule all tables of the VPC are read, since that takes one call as reading some does, and only
 * then is seen what other nodes do. Those of a large VPC are read now and then, the node's own in
 * between.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { ConfigError } from "../../subnet/config.ts";
import { followedTable, names, type StrayTable, strayText } from "./coverage.ts";
import { Ec2Fault } from "./faults.ts";
import type { Ec2, Eni, RouteTable } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Routes of a VPC, all tables together, up to which it is read whole each time: some 250 kB. */
const MOST_ROUTES = 1_000;
/** Looks after which also a large VPC is read whole. */
const LOOKS = 6;
/** Attempts to find a named table, which take some seconds: it may be too new for EC2 to show. */
const ATTEMPTS = 4;

/** What was read of a VPC. */
export interface VpcLook {
  /** The node's tables: at least one. */
  ours: RouteTable[];
  /** All that was read; undefined where this was {@link ours} alone. */
  all: RouteTable[] | undefined;
  /** False where the VPC has more tables than are read. */
  isWhole: boolean;
  /** How many calls it took to read {@link all}. */
  requests: number;
  /** The one that packets from the node follow; undefined where it was not read. */
  followed: RouteTable | undefined;
  /** Tables that the config names and that are not of this VPC. */
  strays: StrayTable[];
}

/** See the module. All calls throw {@linkcode Ec2Fault}. */
export class NodeTables {
  #last: VpcLook | undefined;
  #subnetId = "";
  #isLarge = false;
  #looks = 0;
  #isAnnounced = false;
  /** Attempts in which no table of the config was found. */
  #attempts = 0;

  /** @param named tables that the config names */
  constructor(readonly ec2: Ec2, readonly named: readonly string[]) {}

  /** What the last look found. */
  get last(): VpcLook | undefined {
    return this.#last;
  }

  /**
   * The tables of the node with this network interface as they are now.
   *
   * @throws {ConfigError} the first time, where the config names tables and none is of the VPC
   */
  async look(eni: Eni): Promise<RouteTable[]> {
    if (this.#last === undefined) return await this.#firstLook(eni);
    const hasMoved = this.#subnetId !== eni.subnetId;
    // The second look decides on what the first one only suspected.
    const isDue = this.#looks < 2 || this.#looks % LOOKS === 0;
    if (!this.#isLarge || isDue || hasMoved) return await this.#lookAtVpc(eni, this.#last);
    this.#looks++;
    const ours = await this.#again(this.#last);
    return ours.length > 0 ? ours : await this.#lookAtVpc(eni, this.#last);
  }

  /** The node's tables after something that was not expected of them. */
  async lookAgain(): Promise<RouteTable[]> {
    return this.#last === undefined ? [] : await this.#again(this.#last);
  }

  async #again(last: VpcLook): Promise<RouteTable[]> {
    const ours = await this.ec2.tables(last.ours.map(({ id }) => id));
    if (ours.length > 0) this.#last = { ...last, ours, all: undefined };
    return ours;
  }

  async #firstLook(eni: Eni): Promise<RouteTable[]> {
    if (!this.#isAnnounced) {
      log.info("Route table configured: {configured}", { configured: this.named.length > 0 });
    }
    this.#isAnnounced = true;
    const { named } = this;
    const found = await lookAtVpc(this.ec2, eni, named);
    if (found.ours.length === 0) {
      const reason = noTable(found, eni);
      const isUnknown = found.strays.some(({ vpcId }) => vpcId === undefined);
      if (isUnknown && ++this.#attempts < ATTEMPTS) {
        const details = { grace: Infinity };
        throw new Ec2Fault("refused", "DescribeRouteTables", "NoTable", reason, details);
      }
      throw new ConfigError(`Backend.RouteTableID: ${reason}`);
    }
    if (named.length > 0) {
      const ids = found.ours.map(({ id }) => id);
      log.info("RouteTableID configured as {kind}: {ids}", {
        kind: named.length > 1 ? "array" : "string",
        ids: ids.join(", "),
      });
    } else log.info("Found route table {table}.", { table: found.ours[0].id });
    return this.#keep(found, eni);
  }

  async #lookAtVpc(eni: Eni, last: VpcLook): Promise<RouteTable[]> {
    const found = await lookAtVpc(this.ec2, eni, this.named, last.strays);
    if (found.ours.length === 0) {
      throw new Ec2Fault("refused", "DescribeRouteTables", "NoTable", noTable(found, eni));
    }
    const [table] = found.ours;
    if (this.named.length === 0 && table.id !== last.ours[0].id) {
      log.warn("{subnet} is now routed by {table}, no longer by {was}", {
        subnet: eni.subnetId,
        table: table.id,
        was: last.ours[0].id,
      });
    }
    return this.#keep(found, eni);
  }

  #keep(found: VpcLook, { subnetId }: Eni): RouteTable[] {
    const routes = (found.all ?? []).reduce((sum, table) => sum + table.routes.length, 0);
    this.#isLarge = found.requests > 1 || routes > MOST_ROUTES;
    this.#subnetId = subnetId;
    this.#looks++;
    this.#last = found;
    return found.ours;
  }
}

/**
 * Reads the VPC of a network interface. `ours` is empty where the config names tables and none is of
 * this VPC.
 *
 * @param known strays of a look before, which are not looked for again
 * @throws {Ec2Fault}
 */
export async function lookAtVpc(
  ec2: Ec2,
  eni: Eni,
  named: readonly string[],
  known: readonly StrayTable[] = [],
): Promise<VpcLook> {
  const { vpcId, subnetId } = eni;
  const { tables, isWhole, requests } = await ec2.tablesOfVpc(vpcId);
  const read = followedTable(tables, subnetId, isWhole);
  if (named.length === 0) {
    const followed = read ?? await tableOf(ec2, eni);
    const all = read ? tables : [...tables, followed];
    return { ours: [followed], all, isWhole, requests, followed, strays: [] };
  }
  const absent = named.filter((id) => !tables.some((table) => table.id === id));
  const unknown = absent.filter((id) => !known.some((stray) => stray.id === id));
  const more = unknown.length > 0 ? await ec2.tables(unknown) : [];
  const all = [...tables, ...more.filter((table) => table.vpcId === vpcId)];
  const ours = all.filter(({ id }) => named.includes(id));
  const strays = absent.filter((id) => !ours.some((table) => table.id === id)).map((id) =>
    known.find((stray) => stray.id === id) ??
      { id, vpcId: more.find((table) => table.id === id)?.vpcId }
  );
  return { ours, all, isWhole, requests, followed: read, strays };
}

/** The table that a network interface's VPC subnet follows, where not all of the VPC were read. */
async function tableOf(ec2: Ec2, { subnetId, vpcId }: Eni): Promise<RouteTable> {
  const table = await ec2.tableOfSubnet(subnetId) ?? await ec2.mainTable(vpcId);
  if (table) return table;
  const message = `${vpcId} has no main route table: name one by Backend.RouteTableID`;
  throw new Ec2Fault("refused", "DescribeRouteTables", "NoTable", message);
}

/** Why no named table is the node's. */
export function noTable({ strays }: VpcLook, { vpcId }: Eni): string {
  return `${names(strays.map(strayText))}: name a route table of ${vpcId}, where this node is, ` +
    "or none, for the one that its VPC subnet follows";
}
