/**
 * etcd's full history of the leases, by a watch from the first revision on: who owned which subnet
 * when, and whether one ever had two owners.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { PREFIX } from "../../testbed/cluster.ts";
import { type NetNs, type Process, waitFor } from "../../testbed/netns.ts";

/** The subnet that no node gets, in which tests write leases of their own. */
const UNUSED = "10.1.0.0-24";

/** One change as etcd tells of it. */
export interface LeaseEvent {
  revision: number;
  /** Last part of the key. */
  key: string;
  /** The lease's text; undefined where it was deleted or has expired. */
  value: string | undefined;
  /** Milliseconds since the epoch at which it was seen. */
  seen: number;
}

/** A subnet that two nodes had. */
export interface Conflict {
  revision: number;
  seen: number;
  text: string;
}

/** Who a lease's text says its owner is. */
export type Identify = (value: string) => string;

/** Replays events and finds subnets with two owners. */
export class Owners {
  /** Owner by key. */
  readonly current = new Map<string, string>();
  readonly conflicts: Conflict[] = [];
  readonly #identify: Identify;

  constructor(identify: Identify) {
    this.#identify = identify;
  }

  apply({ revision, key, value, seen }: LeaseEvent): void {
    if (value === undefined) {
      this.current.delete(key);
      return;
    }
    const owner = this.#identify(value);
    for (const [other, otherOwner] of this.current) {
      if (otherOwner !== owner && overlap(key, other)) {
        const text =
          `${key} of ${owner} at revision ${revision}, while ${other} was ${otherOwner}'s`;
        this.conflicts.push({ revision, seen, text });
      }
    }
    this.current.set(key, owner);
  }
}

/** Whether two keys such as `10.1.34.0-24` name subnets that have a part in common. */
export function overlap(a: string, b: string): boolean {
  const [one, two] = [a, b].map((key) => {
    const [ip, length] = key.split("&")[0].split("-");
    const number = ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
    return { number, length: Number(length) };
  });
  const size = 2 ** (32 - Math.min(one.length, two.length));
  return Math.floor(one.number / size) === Math.floor(two.number / size);
}

/** A watch of all members through `etcdctl`, taken up again where it ends. */
export class History implements AsyncDisposable {
  readonly events: LeaseEvent[] = [];
  /** Why the history has a hole; empty where it has none. */
  gap = "";
  #next = 1;
  #process: Process | undefined;
  #closed = false;
  readonly #running: Promise<void>;

  constructor(
    readonly ns: NetNs,
    readonly endpoints: string[],
    readonly owners: Owners,
  ) {
    this.#running = this.#run();
  }

  /** Waits until the change at `revision` or a later one was seen. */
  async reach(revision: number, limitMs = 20_000): Promise<void> {
    const what = `the history's revision ${revision}`;
    await waitFor(() => this.#next > revision, { limitMs, what });
  }

  /** Leases of nodes that were deleted or ended since `since`. */
  ends(since: number): LeaseEvent[] {
    return this.events.filter(({ key, value, seen }) =>
      value === undefined && seen >= since && !overlap(key, UNUSED)
    );
  }

  /** Milliseconds since the epoch at which a key was last deleted, after `since`. */
  deletedAt(key: string, since: number): number | undefined {
    return this.events.findLast((event) =>
      event.key === key && event.value === undefined && event.seen >= since
    )?.seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#process?.[Symbol.asyncDispose]();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const process = this.ns.spawn("etcdctl", [
        ...["--endpoints", this.endpoints.join(","), "watch", "--prefix", "-w", "json"],
        ...["--rev", String(this.#next), `${PREFIX}/subnets/`],
      ], { env: { ETCDCTL_API: "3" } });
      this.#process = process;
      while (!process.ended && !this.#closed) {
        this.#take(process.lines.splice(0));
        await new Promise((done) => setTimeout(done, 50));
      }
      this.#take(process.lines.splice(0));
    }
  }

  #take(lines: string[]): void {
    for (const line of lines) {
      if (!line.startsWith("{")) continue;
      const { Events, CompactRevision } = JSON.parse(line) as {
        Events:
          | { type?: number; kv: { key: string; value?: string; mod_revision: number } }[]
          | null;
        CompactRevision: number;
      };
      if (CompactRevision >= this.#next) this.gap = `compacted at ${CompactRevision}`;
      for (const { type, kv } of Events ?? []) this.#enter(type === 1, kv);
    }
  }

  #enter(
    deleted: boolean,
    { key, value = "", mod_revision: revision }: {
      key: string;
      value?: string;
      mod_revision: number;
    },
  ): void {
    const text = (base64: string) => Buffer.from(base64, "base64").toString();
    const event = {
      revision,
      key: text(key).slice(`${PREFIX}/subnets/`.length),
      value: deleted ? undefined : text(value),
      seen: Date.now(),
    };
    this.#next = Math.max(this.#next, revision + 1);
    this.events.push(event);
    this.owners.apply(event);
  }
}
