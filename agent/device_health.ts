/**
 * Whether the backend's own devices carry packets, by what the kernel refused.
 *
 * @module
 */
import type { EntryError } from "../dataplane/state.ts";

/** See the module. */
export class DeviceHealth {
  #fault: { reason: string; since: number } | undefined;
  #recovered: PromiseWithResolvers<void> | undefined;

  /**
   * Takes note of the result of a reconcile.
   *
   * @param errors all entries that the kernel refused
   * @param devices names of the backend's own devices
   */
  note(errors: readonly EntryError[], devices: readonly string[]): void {
    const error = faultOf(errors, devices);
    if (error === undefined) {
      this.#fault = undefined;
      this.#recovered?.resolve();
      this.#recovered = undefined;
      return;
    }
    const reason = `${error.entry}: ${error.message}`;
    this.#fault = { reason, since: this.#fault?.since ?? performance.now() };
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

/** The refused entry without which a backend's device carries nothing; causes before effects. */
function faultOf(
  errors: readonly EntryError[],
  devices: readonly string[],
): EntryError | undefined {
  const concerns = (pattern: RegExp) =>
    errors.find(({ entry }) => {
      const device = pattern.exec(entry)?.[1];
      return device !== undefined && devices.includes(device);
    });
  return errors.find(({ entry }) => entry === "kernel state") ??
    concerns(/^tunnel (\S+)/) ?? concerns(/^link (\S+)/) ?? concerns(/^address \S+ dev (\S+)/);
}
