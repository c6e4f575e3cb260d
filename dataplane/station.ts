/**
 * The agent on its host, by way of the native library: one agent per network namespace, the sockets
 * where it answers on a thread of the library's, and the service manager.
 *
 * @module
 */
import { answered, encode, take } from "./answer.ts";
import { PendingCalls } from "./pending.ts";
import { openStationLibrary, type StationLibrary } from "./symbols.ts";

/** What the agent is asked for over HTTP and on the status socket. */
export type Topic = "health" | "readiness" | "metrics" | "peers";

/** In the order of their numbers (`dataplane-rs/host`). */
const TOPICS: readonly Topic[] = ["health", "readiness", "metrics", "peers"];

/** Where HTTP is answered. */
export interface HttpOptions {
  ip: string;
  port: number;
  /** Metrics are answered to other hosts, too, not to this one alone. */
  metricsForAll: boolean;
}

/** Why nothing can listen at an address and port. */
export interface ListenRefusal {
  reason: "inUse" | "notAvailable" | "denied" | "other";
  /** The system's words. */
  message: string;
}

/** What came of {@linkcode Station.serve}. */
export interface Served {
  /** Why nothing is served; null where it is. */
  refused: ListenRefusal | null;
  /** Why the status socket is missing; null where it is there. */
  noSocket: string | null;
}

/** Another process has the lock. */
export class HeldError extends Error {
  override readonly name = "HeldError";

  /** @param pid of that process, if it is known */
  constructor(readonly pid: number | null) {
    super("another process holds the lock");
  }
}

type Held =
  | { handle: number; path: string; repaired: boolean }
  | { isHeld: true; pid: number | null };

/** Held until disposed: the lock of this process's network namespace, and what is served by it. */
export class Station implements Disposable {
  readonly #library: StationLibrary;
  readonly #handle: number;
  /** Where the lock file is. */
  readonly path: string;
  /** Other users could write to its folder, until now. */
  readonly repaired: boolean;
  #released = false;
  readonly #pending: PendingCalls;

  private constructor(library: StationLibrary, held: Extract<Held, { handle: number }>) {
    this.#library = library;
    this.#pending = new PendingCalls(() => library.close());
    this.#handle = held.handle;
    this.path = held.path;
    this.repaired = held.repaired;
  }

  /**
   * Takes the lock in the first of `folders` that this process may write to. The first of all is
   * flanneld's own: others lose the right to write to it.
   *
   * @throws {HeldError} where another process has it
   * @throws Error of one line, where no folder can be used or someone else could change it
   */
  static hold(libraryPath: string, folders: readonly string[]): Station {
    const library = openStationLibrary(libraryPath);
    try {
      const json = encode(JSON.stringify(folders));
      const held = take<Held>(library, library.symbols.dp_hold(json, BigInt(json.length)));
      if ("isHeld" in held) throw new HeldError(held.pid);
      return new Station(library, held);
    } catch (error) {
      library.close();
      throw error;
    }
  }

  /**
   * Serves the status socket, and HTTP where `http` is given. What is asked then comes from
   * {@linkcode questions}. To be called once.
   */
  serve(http: HttpOptions | null): Served {
    const json = encode(JSON.stringify(http));
    const { dp_serve } = this.#library.symbols;
    return take(this.#library, dp_serve(this.#handle, json, BigInt(json.length)));
  }

  /**
   * Topics to be answered by {@linkcode answer}, until this is disposed. However many clients ask, a
   * topic comes again only once it is answered and the answer has become old.
   */
  async *questions(): AsyncGenerator<Topic, void, void> {
    while (!this.#released) {
      const topic = await this.#call<Topic>(({ dp_next_question }) =>
        dp_next_question(this.#handle)
      );
      if (topic === undefined) return;
      yield topic;
    }
  }

  /** Adds a part to the answer on a topic; the last one completes it. */
  answer(topic: Topic, status: number, part: string, last: boolean): void {
    if (this.#released) return;
    const bytes = encode(part);
    this.#library.symbols.dp_answer(
      this.#handle,
      TOPICS.indexOf(topic),
      status,
      bytes,
      BigInt(bytes.length),
      +last,
    );
  }

  /**
   * Tells the service manager that listens at `target` (a path, or `@` and an abstract name) a state.
   *
   * @throws Error with the system's words
   */
  async notify(target: string, state: string): Promise<void> {
    const json = encode(JSON.stringify({ target, state }));
    await this.#call<null>(({ dp_notify }) => dp_notify(json, BigInt(json.length)));
  }

  /** Ends what is served and gives the lock back. */
  [Symbol.dispose](): void {
    if (this.#released) return;
    this.#released = true;
    this.#library.symbols.dp_release(this.#handle);
    this.#pending.end();
  }

  /** Makes a call on another thread and reads its answer; undefined for null. */
  async #call<T>(
    call: (symbols: StationLibrary["symbols"]) => Promise<Deno.PointerValue>,
  ): Promise<T | undefined> {
    if (this.#released) throw new Error("the lock was given back");
    return await this.#pending.run(async () => {
      const answer = await call(this.#library.symbols);
      return answer === null ? undefined : take<T>(this.#library, answer);
    });
  }
}

/**
 * Asks the agent of this network namespace for its peers, where it may hold its lock. What it sends
 * comes from root or from the owner of the folder; it is bounded, and not checked otherwise.
 *
 * @returns null where no agent runs
 * @throws Error of one line
 */
export async function askStation(
  libraryPath: string,
  folders: readonly string[],
): Promise<string | null> {
  using library = closing(openStationLibrary(libraryPath));
  const json = encode(JSON.stringify(folders));
  const answer = await library.symbols.dp_ask(json, BigInt(json.length));
  return take(library, answered(answer ?? undefined));
}

function closing(library: StationLibrary): StationLibrary & Disposable {
  return Object.assign(library, { [Symbol.dispose]: () => library.close() });
}
