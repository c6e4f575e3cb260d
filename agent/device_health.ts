/**
 * Whether the agent's own devices, the backend's and the bridge, carry packets, by what the kernel
 * refused.
 *
 * @module
 */
import type { EntryError } from "../dataplane/state.ts";

/** See the module. */
export class DeviceHealth {
  #fault: { device: string; reason: string; since: number } | undefined;
  /** Devices that do not exist or are down, of which {@linkcode note} was given an error. */
  #dead = new Set<string>();
  #recovered: PromiseWithResolvers<void> | undefined;

  /**
   * Takes note of the result of a reconcile.
   *
   * @param errors all entries that the kernel refused
   * @param devices names of the agent's own devices
   */
  note(errors: readonly EntryError[], devices: readonly string[]): void {
    this.#dead = new Set(errors.flatMap((error) => {
      const device = /^(?:link|tunnel) (\S+)/.exec(error.entry)?.[1];
      return device !== undefined && devices.includes(device) ? [device] : [];
    }));
    const fault = faultOf(errors, devices);
    if (fault === undefined) {
      this.#fault = undefined;
      this.#recovered?.resolve();
      this.#recovered = undefined;
      return;
    }
    const { device, error } = fault;
    const reason = `${error.entry}: ${error.message}`;
    this.#fault = { device, reason, since: this.#fault?.since ?? performance.now() };
  }

  /** Whether an entry was refused only because its device, whose own error was noted, is at fault. */
  isConsequence({ entry }: EntryError): boolean {
    const device = /^(?!link |tunnel ).* dev (\S+)/.exec(entry)?.[1];
    return device !== undefined && this.#dead.has(device);
  }

  /** The device that does not work; empty if they all do, or if no single one is to blame. */
  get name(): string {
    return this.#fault?.device ?? "";
  }

  /** Why a device carries nothing, for `graceMs` milliseconds or longer; undefined where all do. */
  problem(graceMs = 0): string | undefined {
    if (this.#fault === undefined) return undefined;
    return performance.now() - this.#fault.since >= graceMs ? this.#fault.reason : undefined;
  }

  /** Resolves when all devices work, at once where they do, or when `signal` aborts. */
  async working(signal: AbortSignal): Promise<void> {
    if (this.#fault === undefined || signal.aborted) return;
    this.#recovered ??= Promise.withResolvers();
    const aborted = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => aborted.resolve(), { once: true });
    await Promise.race([this.#recovered.promise, aborted.promise]);
  }
}

/** The refused entry without which a device carries nothing; causes before effects. */
function faultOf(
  errors: readonly EntryError[],
  devices: readonly string[],
): { device: string; error: EntryError } | undefined {
  const all = errors.find(({ entry }) => entry === "kernel state");
  if (all !== undefined) return { device: "", error: all };
  for (const pattern of [/^tunnel (\S+)/, /^link (\S+)/, /^address \S+ dev (\S+)/]) {
    for (const error of errors) {
      const device = pattern.exec(error.entry)?.[1];
      if (device !== undefined && devices.includes(device)) return { device, error };
    }
  }
  return undefined;
}
