/**
 * A clock that is wrong for one process alone: libfaketime, since the machine's own must not move, and
 * time namespaces know the monotonic clocks only.
 *
 * @module
 */

/** Debian's library for `LD_PRELOAD`, from its package `faketime`. */
export const FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/** Variables of a process whose clock is off by `offset`: `+20m`. */
export function wrongClock(offset: string): Record<string, string> {
  return { LD_PRELOAD: FAKETIME, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
}
