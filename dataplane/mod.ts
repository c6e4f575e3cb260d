/**
 * The kernel's networking, by way of the native library: what is there, what should be, and what
 * happens to it. Nothing else in the program opens the library.
 *
 * @module
 */
import { answered, encode, take } from "./answer.ts";
import { PendingCalls } from "./pending.ts";
import type {
  Filtered,
  Flow,
  HostQuery,
  Overlap,
  OverlapQuery,
  Probed,
  ProbeTarget,
  Process,
  UdpPort,
} from "./host.ts";
import { type Library, openLibrary } from "./symbols.ts";
import type {
  ApplyReport,
  CleanupReport,
  DataPlaneEvent,
  DefaultRoute,
  EntryError,
  ForwardingAnswer,
  ForwardingQuery,
  Interface,
  KernelChange,
  KernelState,
  RouteLookup,
  TunnelCounters,
} from "./state.ts";

export type * from "./host.ts";
export type * from "./state.ts";

/**
 * The data plane of this process's network namespace.
 *
 * @example
 * ```ts ignore
 * using dataplane = DataPlane.open("/usr/lib/flanneld/libdataplane.so");
 * const { errors } = await dataplane.apply(state);
 * ```
 */
export class DataPlane implements Disposable {
  readonly #library: Library;
  readonly #handle: number;
  #closed = false;
  readonly #pending: PendingCalls;

  private constructor(library: Library, handle: number) {
    this.#library = library;
    this.#pending = new PendingCalls(() => library.close());
    this.#handle = handle;
  }

  /**
   * Loads the library at `libraryPath` and starts to watch the kernel.
   *
   * @throws Error of one line, when the library is missing or of another version, or when netlink
   * sockets are refused
   */
  static open(libraryPath: string): DataPlane {
    const library = openLibrary(libraryPath);
    try {
      return new DataPlane(library, take<number>(library, library.symbols.dp_open()));
    } catch (error) {
      library.close();
      throw error;
    }
  }

  /** All network interfaces with their addresses. Done on this thread: it takes under 1 ms. */
  // deno-lint-ignore require-await -- a rejection, not an exception, says that it failed
  async interfaces(): Promise<Interface[]> {
    this.#requireOpen();
    return take(this.#library, this.#library.symbols.dp_interfaces(this.#handle));
  }

  /**
   * The main table's default routes: IPv4's before IPv6's, each family's best first, those whose
   * device has no carrier last. Done on this thread: it takes under 1 ms, 5 ms with thousands of
   * routes.
   */
  // deno-lint-ignore require-await -- as above
  async defaultRoutes(): Promise<DefaultRoute[]> {
    this.#requireOpen();
    return take(this.#library, this.#library.symbols.dp_default_routes(this.#handle));
  }

  /** Which way packets to `ip` go; undefined where there is no route. */
  // deno-lint-ignore require-await -- as above
  async routeTo(ip: string): Promise<RouteLookup | undefined> {
    return this.routesTo([ip])[0];
  }

  /**
   * Which way packets to each address go, undefined where there is no route. Done on this thread: it
   * takes some 10 µs for each.
   */
  routesTo(ips: readonly string[]): (RouteLookup | undefined)[] {
    this.#requireOpen();
    const json = encode(JSON.stringify(ips));
    const answer = this.#library.symbols.dp_routes_to(this.#handle, json, BigInt(json.length));
    const routes = take<(RouteLookup | null)[]>(this.#library, answer);
    return routes.map((route) => route ?? undefined);
  }

  /**
   * The route to exactly the subnet `cidr` that goes through a gateway; undefined where there is
   * none.
   */
  // deno-lint-ignore require-await -- as above
  async gatewayTo(cidr: string): Promise<RouteLookup | undefined> {
    this.#requireOpen();
    const text = encode(cidr);
    const answer = this.#library.symbols.dp_gateway_to(this.#handle, text, BigInt(text.length));
    return take<RouteLookup | null>(this.#library, answer) ?? undefined;
  }

  /**
   * Makes the kernel match `state`, and keeps it so until the next call: what others remove or
   * alter is put back, and {@linkcode DataPlane.events} tells. Entries that the kernel refuses are
   * in the report; the others are in place.
   *
   * @throws Error when netlink itself fails; then the call can be repeated
   */
  async apply(state: KernelState): Promise<ApplyReport> {
    const json = encode(JSON.stringify(state));
    return answered(
      await this.#call<ApplyReport>((symbols) =>
        symbols.dp_apply(this.#handle, json, BigInt(json.length))
      ),
    );
  }

  /**
   * Changes the state that was applied last, and the kernel with it: much cheaper than applying all, as
   * it looks at nothing else.
   *
   * @returns undefined where the data plane cannot tell what to do from the change alone: no state was
   * applied before, the kernel refused a part of it, or the change does not follow on from it. Then
   * {@linkcode DataPlane.apply} is to be called.
   * @throws Error when netlink itself fails; then {@linkcode DataPlane.apply} is to be called, too
   */
  async change(change: KernelChange): Promise<ApplyReport | undefined> {
    const json = encode(JSON.stringify(change));
    const report = await this.#call<ApplyReport | null>((symbols) =>
      symbols.dp_change(this.#handle, json, BigInt(json.length))
    );
    return report ?? undefined;
  }

  /** What happens to the kernel's state, until {@linkcode DataPlane.close}. One reader at a time. */
  async *events(): AsyncGenerator<DataPlaneEvent, void, void> {
    while (!this.#closed) {
      const event = await this.#call<DataPlaneEvent>((symbols) =>
        symbols.dp_next_event(this.#handle)
      );
      if (event === undefined) return;
      yield event;
    }
  }

  /**
   * What the tunnel carried and dropped; undefined where none runs. On another thread, as it waits
   * for the end of an apply.
   */
  async counters(): Promise<TunnelCounters | undefined> {
    const counters = await this.#call<TunnelCounters | null>((symbols) =>
      symbols.dp_counters(this.#handle)
    );
    return counters ?? undefined;
  }

  /**
   * Takes over routes that a flannel left behind: those that lead into `networks` through a gateway on
   * `dev` and that no program has marked as its own (protocol boot). Forwarding goes on meanwhile.
   *
   * @returns the routes, as an operator would write them
   */
  async adopt(dev: string, networks: readonly string[]): Promise<string[]> {
    const json = encode(JSON.stringify({ dev, networks }));
    return answered(
      await this.#call<string[]>((symbols) =>
        symbols.dp_adopt(this.#handle, json, BigInt(json.length))
      ),
    );
  }

  /**
   * The capabilities (capabilities(7)) that the agent needs and does not have over this network
   * namespace, found by trying. Done on this thread: it takes under 1 ms.
   */
  missingCapabilities(): string[] {
    this.#requireOpen();
    return take(this.#library, this.#library.symbols.dp_missing_capabilities());
  }

  /**
   * Which interfaces do not forward packets; with `enable` it is switched on. Done on this thread: it
   * takes under 1 ms.
   */
  packetForwarding(query: ForwardingQuery): ForwardingAnswer {
    this.#requireOpen();
    const json = encode(JSON.stringify(query));
    return take(
      this.#library,
      this.#library.symbols.dp_forwarding(json, BigInt(json.length)),
    );
  }

  /**
   * Has {@linkcode DataPlane.events} tell when rules of the packet filter may have changed, at most
   * once in `everySeconds` (2,000,000 at most). What the kernel does not notify of is compared that
   * often.
   *
   * @throws Error when the watch cannot be started
   */
  watchPacketFilter(everySeconds: number): void {
    this.#requireOpen();
    const answer = this.#library.symbols.dp_watch_filter(this.#handle, everySeconds * 1000);
    take<null>(this.#library, answer);
  }

  /** Gives memory that the process has freed, in whatever part, back to the system. */
  async releaseMemory(): Promise<void> {
    if (this.#closed) return;
    await this.#pending.run(() => this.#library.symbols.dp_release_memory());
  }

  /**
   * Entries of `state` that the kernel lacks or has otherwise, and what is wrong with each; changes
   * nothing. What is there besides does not count.
   */
  async inspect(state: KernelState): Promise<EntryError[]> {
    const json = encode(JSON.stringify(state));
    return answered(
      await this.#call<EntryError[]>((symbols) => symbols.dp_inspect(json, BigInt(json.length))),
    );
  }

  /**
   * Addresses and routes of the host that overlap the overlay's networks: neither the agent's own nor
   * default routes.
   */
  overlaps(query: OverlapQuery): Promise<Overlap[]> {
    return this.#host<Overlap[]>({ what: "overlaps", ...query });
  }

  /** Which of these packets the kernel drops since it would not answer by their device (`rp_filter`). */
  reversePath(flows: Flow[]): Promise<Filtered[]> {
    return this.#host<Filtered[]>({ what: "reversePath", flows });
  }

  /**
   * The agent of another program, such as Go flannel's, that runs in this network namespace.
   *
   * @returns null where none runs
   */
  otherAgent(): Promise<Process | null> {
    return this.#host<Process | null>({ what: "otherAgent" });
  }

  /** Who holds a UDP port of this network namespace. */
  udpPort(port: number): Promise<UdpPort> {
    return this.#host<UdpPort>({ what: "udpPort", port });
  }

  /** Names of a device's features that are on, as `ethtool -k` has them. @throws Error of one line */
  features(dev: string): Promise<string[]> {
    return this.#host<string[]>({ what: "features", dev });
  }

  /**
   * Which hosts answer ICMP echo requests, 256 at most, and the largest packets that reach them without
   * being fragmented. Takes up to 4 s. Needs CAP_NET_RAW.
   */
  probe(targets: ProbeTarget[]): Promise<Probed[]> {
    return this.#host<Probed[]>({ what: "probe", targets });
  }

  async #host<T>(query: HostQuery): Promise<T> {
    const json = encode(JSON.stringify(query));
    return answered(
      await this.#call<T>((symbols) => symbols.dp_host(json, BigInt(json.length))),
    );
  }

  /** Removes all devices and routes of the agent's, also those of an earlier process. */
  async cleanup(): Promise<CleanupReport> {
    return answered(
      await this.#call<CleanupReport>((symbols) => symbols.dp_cleanup(this.#handle)),
    );
  }

  /** Ends {@linkcode DataPlane.events} and the healing; what is in the kernel stays. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#library.symbols.dp_close(this.#handle);
    this.#pending.end();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #requireOpen(): void {
    if (this.#closed) throw new Error("the data plane is closed");
  }

  /** Makes a call on another thread and reads its answer; undefined for null. */
  async #call<T>(
    call: (symbols: Library["symbols"]) => Promise<Deno.PointerValue>,
  ): Promise<T | undefined> {
    this.#requireOpen();
    return await this.#pending.run(async () => {
      const answer = await call(this.#library.symbols);
      return answer === null ? undefined : take<T>(this.#library, answer);
    });
  }
}
