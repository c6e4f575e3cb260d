/**
 * Switches the source/dest check of the node's network interface off. With it on, the VPC drops all
 * packets from and to containers.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { Ec2Fault } from "./faults.ts";
import type { Ec2, Eni } from "./types.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** EC2 may not know a new interface yet: attempts that are repeated before it is a refusal. */
const ATTEMPTS = 3;

/** A network interface with what counts of its instance. */
export interface AttachedEni {
  eni: Eni;
  /** How many more interfaces its instance has. */
  siblings: number;
}

type Switch = Parameters<Ec2["forwardForeign"]>[0];

/** See the module. All calls throw {@linkcode Ec2Fault}, but not for a refusal: that is a warning. */
export class SourceDestCheck {
  /** The interface whose check could not be switched off. */
  #refused = "";
  /** Counts attempts after a refusal: each makes one call. */
  #turn = 0;
  #missing = 0;

  constructor(readonly ec2: Ec2) {}

  /** Whether it was refused for this interface the last time. */
  isRefused(eniId: string): boolean {
    return this.#refused === eniId;
  }

  /**
   * Switches it off without looking whether it is on, as flannel does: EC2's description of the
   * interface may be old.
   */
  async switchOff({ eni, siblings }: AttachedEni): Promise<void> {
    const [first, ...others] = switchesOf(eni, siblings);
    // Where it is off already nothing is lost by a refusal.
    await this.#try(eni, eni.sourceDestCheck ? [first, ...others] : [first]);
  }

  /** Makes one call where the check is on: the interface's and the instance's take turns. */
  async ensureOff({ eni, siblings }: AttachedEni): Promise<void> {
    if (!eni.sourceDestCheck) {
      if (this.#refused === eni.id) log.info("SourceDestCheck is off on {id} now", { id: eni.id });
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
    // Where it is off there is nothing to try again.
    const told = this.#refused === id;
    this.#refused = sourceDestCheck ? id : "";
    if (told) return;
    const { message, details: { answer = message } } = refusals[0];
    const line = "failed to disable SourceDestCheck on {id}: {answer}; ";
    if (!sourceDestCheck) {
      log.warn(line + "it is off already, so nothing has to be done", { id, answer });
      return;
    }
    const fix = refusals.find(({ details }) => details.fix)?.details.fix;
    log.warn(
      line + "the VPC drops packets from and to containers, so containers of different nodes " +
        "cannot reach each other: {fix}run: {command}",
      { id, answer, fix: fix ? `${fix}, or ` : "", command: switchOffCommand(id) },
    );
  }
}

/** What an operator runs in the agent's place. */
export function switchOffCommand(eniId: string): string {
  return `aws ec2 modify-network-interface-attribute --network-interface-id ${eniId} ` +
    "--no-source-dest-check";
}

/** The calls that switch it off; EC2 takes an instance's only where there is one interface. */
function switchesOf({ id, instanceId }: Eni, siblings: number): Switch[] {
  const ofEni = { eniId: id };
  return instanceId !== undefined && siblings === 0 ? [ofEni, { instanceId }] : [ofEni];
}

/** Whether EC2 has answered, and will not answer otherwise soon. */
function isRefusal(error: unknown): error is Ec2Fault {
  return error instanceof Ec2Fault &&
    ["unauthorized", "refused", "credentials"].includes(error.kind) &&
    error.details.answer !== undefined;
}
