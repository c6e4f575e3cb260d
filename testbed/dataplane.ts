/**
 * The data plane of a namespace, held by a process inside it (`dataplane_driver.ts`).
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import type {
  ApplyReport,
  CleanupReport,
  DataPlaneEvent,
  DefaultRoute,
  Interface,
  KernelChange,
  KernelState,
  RouteLookup,
} from "../dataplane/state.ts";
import { type NetNs, waitFor } from "./netns.ts";

const ROOT = new URL("../", import.meta.url);

/** The library under test: `FLANNELD_LIB`, else the one that cargo builds. */
export const LIBRARY = Deno.env.get("FLANNELD_LIB") ??
  fileURLToPath(new URL("dataplane-rs/target/release/libdataplane.so", ROOT));

type Line = { ok: unknown } | { error: string } | { event: DataPlaneEvent };

/** See the module. */
export class RemoteDataPlane implements AsyncDisposable {
  /** All events so far. */
  readonly events: DataPlaneEvent[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiting: PromiseWithResolvers<unknown>[] = [];
  readonly #output: Promise<void>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#output = this.#read();
  }

  /** Opens the data plane in `ns`. */
  static async open(ns: NetNs): Promise<RemoteDataPlane> {
    const driver = fileURLToPath(new URL("testbed/dataplane_driver.ts", ROOT));
    const child = new Deno.Command("ip", {
      args: ["netns", "exec", ns.name, Deno.execPath(), "run", "-A", driver, LIBRARY],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const dataplane = new RemoteDataPlane(child);
    await dataplane.#answer();
    return dataplane;
  }

  /** {@linkcode DataPlane.apply} */
  apply(state: KernelState): Promise<ApplyReport> {
    return this.#call("apply", state);
  }

  /** {@linkcode DataPlane.change}, null for undefined */
  change(change: KernelChange): Promise<ApplyReport | null> {
    return this.#call("change", change);
  }

  /** {@linkcode DataPlane.interfaces} */
  interfaces(): Promise<Interface[]> {
    return this.#call("interfaces");
  }

  /** {@linkcode DataPlane.defaultRoutes} */
  defaultRoutes(): Promise<DefaultRoute[]> {
    return this.#call("defaultRoutes");
  }

  /** {@linkcode DataPlane.routeTo}, null for undefined */
  routeTo(ip: string): Promise<RouteLookup | null> {
    return this.#call("routeTo", ip);
  }

  /** {@linkcode DataPlane.gatewayTo}, null for undefined */
  gatewayTo(cidr: string): Promise<RouteLookup | null> {
    return this.#call("gatewayTo", cidr);
  }

  /** {@linkcode DataPlane.watchPacketFilter} */
  watchPacketFilter(everySeconds: number): Promise<void> {
    return this.#call("watchPacketFilter", everySeconds);
  }

  /** {@linkcode DataPlane.cleanup} */
  cleanup(): Promise<CleanupReport> {
    return this.#call("cleanup");
  }

  /** Waits for an event, past or to come. */
  event(test: (event: DataPlaneEvent) => boolean, what: string): Promise<DataPlaneEvent> {
    return waitFor(() => this.events.find(test), { limitMs: 3_000, what });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5_000);
    await this.#child.status;
    clearTimeout(timer);
    await this.#output;
  }

  async #call<T>(call: string, argument?: unknown): Promise<T> {
    const answer = this.#answer();
    await this.#input.write(new TextEncoder().encode(JSON.stringify({ call, argument }) + "\n"));
    return await answer as T;
  }

  #answer(): Promise<unknown> {
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) this.#take(JSON.parse(part) as Line);
    }
    for (const waiting of this.#waiting) waiting.reject(new Error("the driver has ended"));
  }

  #take(line: Line): void {
    if ("event" in line) this.events.push(line.event);
    else if ("error" in line) this.#waiting.shift()?.reject(new Error(line.error));
    else this.#waiting.shift()?.resolve(line.ok);
  }
}
