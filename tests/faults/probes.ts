/**
 * Probes between all containers, entered into a {@linkcode Ledger}.
 *
 * @module
 */
import type { Container } from "../../testbed/cluster.ts";
import type { Process } from "../../testbed/netns.ts";
import type { Ledger } from "./ledger.ts";
import type { ProbeReport } from "./probe_program.ts";

/** Milliseconds between two probes of a pair. */
const INTERVAL = 50;
/** Milliseconds between two looks at what the probes tell. */
const READ_EVERY = 100;

const PROGRAM = new URL("probe_program.ts", import.meta.url).pathname;

/** See the module; the processes end with their namespaces. */
export class Probes {
  readonly #processes: Process[];
  readonly #ips: string[];
  readonly #reader: ReturnType<typeof setInterval>;

  /** Starts a probe in each container; their order is that of the ledger's nodes. */
  constructor(readonly containers: Container[], readonly ledger: Ledger) {
    this.#ips = containers.map(({ ipv4 }) => ipv4!);
    this.#processes = containers.map(({ ns }, index) => {
      const args = [PROGRAM, String(index), String(INTERVAL), ...this.#ips];
      return ns.spawn(Deno.execPath(), ["run", "-A", "--no-check", ...args]);
    });
    this.#reader = setInterval(() => this.#read(), READ_EVERY);
  }

  /** Packets that the probes' own sockets dropped: false alarms. */
  async drops(): Promise<number> {
    const counts = await Promise.all(this.containers.map(async ({ ns }) => {
      const text = await ns.run("cat", "/proc/net/snmp");
      const [names, values] = text.split("\n").filter((line) => line.startsWith("Udp:"))
        .map((line) => line.split(" "));
      return Number(values[names.indexOf("RcvbufErrors")]) +
        Number(values[names.indexOf("SndbufErrors")]);
    }));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Enters no more. */
  stop(): void {
    clearInterval(this.#reader);
  }

  #read(): void {
    for (const [index, process] of this.#processes.entries()) {
      for (const line of process.lines.splice(0)) {
        if (!line.startsWith("{")) throw new Error(`probe ${index}: ${line}`);
        this.#enter(index, JSON.parse(line));
      }
    }
  }

  #enter(index: number, { sent, received }: ProbeReport): void {
    const position = (ip: string) => this.#ips.indexOf(ip);
    for (const [peer, first, ...times] of sent) {
      this.ledger.sent({ from: index, to: position(peer) }, first, times);
    }
    for (const [peer, number, time] of received) {
      this.ledger.arrived({ from: position(peer), to: index }, number, time);
    }
  }
}
