/**
 * Stays with the interface and address chosen at the start: a node's address is how its peers know it,
 * so neither an uplink that flaps nor a better route or address moves it. Another interface is chosen
 * only once this one is gone.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { sleep } from "../base/time.ts";
import type { PublicInterface } from "../backends/types.ts";
import { isAddressOnly } from "../hostcheck/address_only.ts";
import { UsageError } from "./errors.ts";
import {
  type Choice,
  choose,
  describe,
  type Families,
  type InterfaceSource,
  look,
  type Surroundings,
  type Tell,
} from "./interface.ts";
import type { LeaseFile, Uplink } from "./lease_file.ts";
import type { InterfaceOptions } from "./options.ts";

const log = getLogger(["flanneld", "interface"]);

/** Milliseconds for which an interface without an address or default route is waited for. */
export const PATIENCE = 30_000;
/** Milliseconds for which a deleted one is waited for: a driver that restarts makes it again. */
export const DELETED_PATIENCE = 5_000;
/** Milliseconds for which a start waits for the uplink that the node had before. */
export const START_PATIENCE = 5_000;
/** Milliseconds between looks at an interface that is waited for. */
export const INTERFACE_RETRY = 1_000;
/** Milliseconds that IPv6 may take at the start to find that no other host has an address. */
const TENTATIVE_LIMIT = 10_000;
const TENTATIVE_RETRY = 100;

type Kind = "deleted" | "address" | "moved" | "route";

/** What a look without memory comes to. */
type Fresh =
  & { lines: string[] }
  & (
    { choice: Choice; error?: undefined } | { choice?: undefined; error: UsageError }
  );

/** What is wrong with the chosen interface. */
interface Problem {
  kind: Kind;
  reason: string;
}

/** Where the uplink is remembered across restarts. */
export type UplinkMemory = Pick<LeaseFile, "recallUplink" | "keepUplink">;

/** See the module. */
export class InterfaceKeeper {
  readonly #options: InterfaceOptions;
  readonly #families: Families;
  readonly #source: InterfaceSource;
  readonly #signal: AbortSignal;
  readonly #memory: UplinkMemory | undefined;
  readonly #now: () => number;
  #choice: Choice | undefined;
  /** When each kind of problem began, while there is one and another interface to go to. */
  readonly #since = new Map<Kind, number>();
  #isUnsettled = false;
  #logged = "";

  constructor(
    options: InterfaceOptions,
    families: Families,
    source: InterfaceSource,
    signal: AbortSignal,
    memory?: UplinkMemory,
    now: () => number = () => performance.now(),
  ) {
    this.#options = options;
    this.#families = families;
    this.#source = source;
    this.#signal = signal;
    this.#memory = memory;
    this.#now = now;
  }

  /** Whether time alone may bring another answer: look again after {@linkcode INTERFACE_RETRY}. */
  get isUnsettled(): boolean {
    return this.#isUnsettled;
  }

  /** Whether a change of the device `dev` may change the answer. */
  concerns(dev: string): boolean {
    return this.#choice !== undefined &&
      (this.#choice.view.name === dev || this.#choice.isAddressOnly);
  }

  /**
   * The public interface: the one chosen first, as it is now. Waits while it has no address, and for the
   * one that replaces it.
   *
   * @throws {UsageError} at the first call, where no interface fits
   */
  async next(): Promise<PublicInterface> {
    if (this.#choice === undefined) {
      this.#take(await this.#first());
      return this.#choice!.view;
    }
    while (true) {
      const view = await this.#check(this.#choice);
      if (view !== undefined) return view;
      await sleep(INTERFACE_RETRY, this.#signal);
    }
  }

  #take(choice: Choice): void {
    this.#choice = choice;
    const { byRoute, view: { name, ip, ipv6 } } = choice;
    this.#memory?.keepUplink(byRoute && { name, ip, ipv6, byRoute });
  }

  async #first(): Promise<Choice> {
    const lines = new Set<string>();
    const tell = (line: string) => {
      if (!lines.has(line)) log.info("{line}", { line });
      lines.add(line);
    };
    for (const start = this.#now();;) {
      const waited = this.#now() - start;
      const fresh = await this.#fresh();
      const former = await this.#formerUplink(fresh.choice, waited, tell);
      if (former !== undefined && former !== "wait") return former;
      if (former === undefined) {
        fresh.lines.forEach(tell);
        if (fresh.choice) return fresh.choice;
        if (waited > TENTATIVE_LIMIT || !await this.#hasTentative()) throw fresh.error;
      }
      await sleep(TENTATIVE_RETRY, this.#signal);
    }
  }

  /** What is chosen without regard to what was before, and the log's lines about it. */
  async #fresh(): Promise<Fresh> {
    const lines: string[] = [];
    try {
      const tell = (line: string) => lines.push(line);
      const choice = await choose(this.#options, this.#families, this.#source, tell);
      return { choice, lines };
    } catch (error) {
      if (error instanceof UsageError) return { error, lines };
      throw error;
    }
  }

  /**
   * The uplink that the node had before the restart, while that has no default route and another one
   * has, as in a flap: from then on it is waited for as while the agent runs. `wait` while it cannot be used yet, for a
   * short time; undefined where the fresh choice counts.
   */
  async #formerUplink(
    fresh: Choice | undefined,
    waited: number,
    tell: Tell,
  ): Promise<Choice | "wait" | undefined> {
    const uplink = this.#memory?.recallUplink();
    // Whatever an option names is what is wanted now.
    if (!uplink || !isByDefault(this.#options) || !fresh?.byRoute) return undefined;
    const { name, ip, ipv6, byRoute } = uplink;
    if (fresh.view.name === name) return undefined;
    const around = await look(this.#source);
    const route = around.routes.find((one) =>
      one.dev === name && one.ipv6 === (byRoute === "ipv6")
    );
    if (route && !route.linkDown) return undefined;
    const title = `interface ${name} (${[ip, ipv6].filter(Boolean).join(", ")})`;
    const choice = route ? undefined : this.#former(uplink, around);
    if (choice !== undefined) {
      tell(`Keeping ${title} from before the restart, although it has no default route now`);
      return choice;
    }
    if (waited >= START_PATIENCE) return undefined;
    tell(
      `Waiting up to ${
        START_PATIENCE / 1000
      } s for ${title}, which this node used before the restart`,
    );
    return "wait";
  }

  /** The former uplink as it is now; undefined where it is gone or has another address. */
  #former({ name, ip, ipv6, byRoute }: Uplink, around: Surroundings): Choice | undefined {
    const iface = around.interfaces.find((each) => each.name === name);
    if (iface === undefined) return undefined;
    try {
      const match = { iface, byRoute };
      const view = describe(match, this.#families, this.#options, around, { ip, ipv6 });
      if (view.ip !== ip || view.ipv6 !== ipv6) return undefined;
      return { index: iface.index, isAddressOnly: isAddressOnly(iface), view, byRoute };
    } catch (error) {
      if (error instanceof UsageError) return undefined;
      throw error;
    }
  }

  /** Whether an address is about to become usable. */
  async #hasTentative(): Promise<boolean> {
    const { interfaces } = await look(this.#source);
    return this.#families.ipv6 &&
      interfaces.some(({ addresses }) =>
        addresses.some(({ tentative, duplicate, scope }) =>
          tentative && !duplicate && scope === "global"
        )
      );
  }

  /** The view of the interface to use now; undefined while no interface is usable. */
  async #check(before: Choice): Promise<PublicInterface | undefined> {
    const around = await look(this.#source);
    const { choice, problem } = this.#current(before, around);
    if (problem === undefined) {
      this.#recovered(before.view.name);
      this.#take(choice!);
      return choice!.view;
    }
    const other = await this.#other(before);
    // Where all uplinks were lost, the first to come back is not at once the better one.
    if (other === undefined) this.#since.clear();
    const waited = other === undefined ? 0 : this.#waited(problem.kind);
    this.#isUnsettled = choice === undefined || other !== undefined;
    if (other && (isSameNode(before, other) || waited >= patience(problem.kind))) {
      this.#replace(before, other, problem, waited);
      return other.view;
    }
    if (choice === undefined) {
      this.#warn(`${problem.reason}; waiting for it to come back`);
      return undefined;
    }
    this.#take(choice);
    if (problem.kind !== "moved") this.#warn(routeWarning(choice, other));
    return choice.view;
  }

  /** The same interface as it is now, and what is wrong with it; without a choice it cannot be used. */
  #current(before: Choice, around: Surroundings): { choice?: Choice; problem?: Problem } {
    const { view: { name, ip, ipv6 }, address, byRoute } = before;
    const { interfaces, routes } = around;
    // Renamed, it is still the same; made again under its name, too.
    const iface = interfaces.find((each) => each.name === name) ??
      interfaces.find(({ index }) => index === before.index);
    if (iface === undefined) {
      return { problem: { kind: "deleted", reason: `interface ${name} was deleted` } };
    }
    const has = (wanted: string) => iface.addresses.some((each) => each.ip === wanted);
    if (address !== undefined && !has(address)) {
      const reason = `interface ${iface.name} no longer has the address ${address}`;
      return { problem: { kind: "address", reason } };
    }
    let choice: Choice;
    try {
      const match = { iface, address };
      const view = describe(match, this.#families, this.#options, around, before.view);
      choice = { ...before, index: iface.index, view };
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      return { problem: { kind: "address", reason: error.message } };
    }
    const lost = [ip, ipv6].find((each) => each !== null && !has(each));
    if (lost && interfaces.some(({ addresses }) => addresses.some((each) => each.ip === lost))) {
      const reason = `its address ${lost} moved to another interface`;
      return { choice, problem: { kind: "moved", reason } };
    }
    const leadsOn = routes.some((route) =>
      route.dev === iface.name && route.ipv6 === (byRoute === "ipv6")
    );
    if (byRoute === undefined || leadsOn) return { choice };
    const reason = `interface ${iface.name} has no default route`;
    return { choice, problem: { kind: "route", reason } };
  }

  /** What would be chosen at a start; undefined if that is the same, or if nothing is usable. */
  async #other(before: Choice): Promise<Choice | undefined> {
    try {
      const tell = (line: string) => log.debug("{line}", { line });
      const other = await choose(this.#options, this.#families, this.#source, tell);
      const { name, ip, ipv6 } = other.view;
      const isSame = name === before.view.name && ip === before.view.ip &&
        ipv6 === before.view.ipv6;
      return isSame ? undefined : other;
    } catch (error) {
      if (error instanceof UsageError) return undefined;
      throw error;
    }
  }

  /** Milliseconds since the problem began. Other kinds may have come before; deletion counts alone. */
  #waited(kind: Kind): number {
    const now = this.#now();
    if (kind !== "deleted") this.#since.delete("deleted");
    if (!this.#since.has(kind)) this.#since.set(kind, now);
    const began = kind === "deleted"
      ? this.#since.get("deleted")!
      : Math.min(...this.#since.values());
    return now - began;
  }

  #replace(before: Choice, other: Choice, { kind, reason }: Problem, waited: number): void {
    this.#settle();
    this.#logged = "";
    this.#take(other);
    const since = kind === "address" || kind === "route" ? sinceText(waited) : "";
    log.warn("Replacing interface {from} with {to}: {reason}{since}", {
      from: titled(before),
      to: titled(other),
      reason,
      since,
    });
  }

  #settle(): void {
    this.#since.clear();
    this.#isUnsettled = false;
  }

  #recovered(name: string): void {
    this.#settle();
    if (this.#logged !== "") log.info("Recovered: interface {name} is usable again", { name });
    this.#logged = "";
  }

  /** Logs once per state. */
  #warn(line: string): void {
    if (line !== this.#logged) log.warn("{line}", { line });
    this.#logged = line;
  }
}

/** Whether to take `other` at once: the same interface, or the same address moved to it. */
function isSameNode(before: Choice, other: Choice): boolean {
  const [was, is] = [before.view, other.view];
  return was.name === is.name || (was.ip !== null ? was.ip === is.ip : was.ipv6 === is.ipv6);
}

/** Whether no option names an interface, or one of its addresses. */
function isByDefault({ iface, ifaceRegex, ifaceCanReach }: InterfaceOptions): boolean {
  return iface.length === 0 && ifaceRegex.length === 0 && ifaceCanReach === undefined;
}

function patience(kind: Kind): number {
  if (kind === "moved") return Infinity;
  return kind === "deleted" ? DELETED_PATIENCE : PATIENCE;
}

function routeWarning({ view: { name } }: Choice, other: Choice | undefined): string {
  return other === undefined
    ? `interface ${name} has lost its default route and no other interface has one; waiting for one`
    : `interface ${name} has lost its default route; switching to ${other.view.name} in ` +
      `${PATIENCE / 1000} s unless it comes back`;
}

function sinceText(waited: number): string {
  return waited < INTERFACE_RETRY ? "" : `, for ${Math.round(waited / 1000)} s now`;
}

function titled({ view: { name, ip, ipv6 } }: Choice): string {
  return `${name} (${[ip, ipv6].filter(Boolean).join(", ")})`;
}
