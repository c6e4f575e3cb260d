/**
 * Switches off the source/dest check of the node's network interface. While it is on, the VPC drops
 * all packets to and from containers.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Ec2Fault } from "./faults.ts";
import type { Ec2, Eni } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** Attempts for an interface that EC2 does not know: it may be new. */
const ATTEMPTS = 3;

/** A network interface and its instance. */
export interface AttachedEni {
  eni: Eni;
  /** How many more interfaces its instance has. */
  siblings: number;
}

type Switch = Parameters<Ec2["forwardForeign"]>[0];

/** See the module. A refusal is a warning; any other fault is thrown as {@linkcode Ec2Fault}. */
export class SourceDestCheck {
  /** The interface whose check could not be switched off. */
  #refused = "";
  /** Counts attempts after a refusal: each makes one call. */
  #turn = 0;
  #missing = 0;

  constructor(readonly ec2: Ec2) {}

  /** Whether the last attempt was refused for this interface. */
  isRefused(eniId: string): boolean {
    return this.#refused === eniId;
  }

  /**
   * Switches it off whether or not it seems to be on, as flannel does: EC2's description of the
   * interface may be out of date.
   */
  async switchOff({ eni, siblings }: AttachedEni): Promise<void> {
    const [first, ...others] = switchesOf(eni, siblings);
    // If it is already off, a refusal does no harm.
    await this.#try(eni, eni.sourceDestCheck ? [first, ...others] : [first]);
  }

  /** Makes one call if the check is on: for the interface and for the instance in turn. */
  async ensureOff({ eni, siblings }: AttachedEni): Promise<void> {
    if (!eni.sourceDestCheck) {
      if (this.#refused === eni.id) {
        log.info("Recovered: SourceDestCheck is off on {id}", { id: eni.id });
      }
      this.#refused = "";
      return;
    }
    const switches = switchesOf(eni, siblings);
    await this.#try(eni, [switches[this.#turn++ % switches.length]]);
  }

  async #try(eni: Eni, switches: Switch[]): Promise<void> {
    const refusals: Ec2Fault[] = [];
    for (const each of switches) {
      try {
        await this.ec2.forwardForeign(each);
        this.#refused = "";
        if (eni.sourceDestCheck) log.info("Disabled SourceDestCheck on {id}", { id: eni.id });
        return;
      } catch (error) {
        if (!isRefusal(error)) throw error;
        refusals.push(error);
      }
    }
    const isMissing = refusals.every(({ details }) => details.grace !== undefined);
    if (isMissing && ++this.#missing < ATTEMPTS) throw refusals[0];
    this.#warn(eni, refusals);
  }

  #warn({ id, sourceDestCheck }: Eni, refusals: Ec2Fault[]): void {
    // If it is off there is nothing to retry.
    const isWarned = this.#refused === id;
    this.#refused = sourceDestCheck ? id : "";
    if (isWarned) return;
    const { message, details: { answer = message } } = refusals[0];
    const line = "failed to disable SourceDestCheck on {id}: {answer}; ";
    if (!sourceDestCheck) {
      log.warn(line + "it is already off, so no action is needed", { id, answer });
      return;
    }
    const fix = refusals.find(({ details }) => details.fix)?.details.fix;
    log.warn(
      line + "the VPC drops packets to and from containers, so containers on different nodes " +
        "cannot reach each other: {fix}run: {command}",
      { id, answer, fix: fix ? `${fix}, or ` : "", command: switchOffCommand(id) },
    );
  }
}

/** The command with which an operator switches it off. */
export function switchOffCommand(eniId: string): string {
  return `aws ec2 modify-network-interface-attribute --network-interface-id ${eniId} ` +
    "--no-source-dest-check";
}

/** The calls that switch it off; EC2 accepts an instance only if it has one interface. */
function switchesOf({ id, instanceId }: Eni, siblings: number): Switch[] {
  const ofEni = { eniId: id };
  return instanceId !== undefined && siblings === 0 ? [ofEni, { instanceId }] : [ofEni];
}

/** Whether EC2 answered, and is unlikely to change its answer soon. */
function isRefusal(error: unknown): error is Ec2Fault {
  return error instanceof Ec2Fault &&
    ["unauthorized", "refused", "credentials"].includes(error.kind) &&
    error.details.answer !== undefined;
}
