/**
 * Faults of the agent's process and of what it stands on.
 *
 * @module
 */
import { FAKETIME } from "../../testbed/faketime.ts";
import { ALL, type Fault, NONE, pairsOf, pause } from "./fault.ts";
import type { BackendName, Lab } from "./lab.ts";
import type { Pair } from "./ledger.ts";

/** Seconds that a clock jumps. */
const JUMP = 7200;

const killed: Fault = {
  name: "agent kill -9",
  expectation:
    "its node keeps forwarding without it (udp: pauses); the next start keeps the subnet",
  nodes: 1,
  make: (lab, [node]) => ({
    touches: carriedBy(lab.backend, node),
    inject: async () => {
      await lab.killAgent(node);
      await pause(1_000);
    },
    heal: async () => {
      await Promise.resolve(lab.startAgent(node));
    },
  }),
};

const allRestarted: Fault = {
  name: "all agents restarted at once",
  expectation: "all nodes keep forwarding (udp: pause) and keep their subnets",
  alone: true,
  nodes: 0,
  make: (lab) => ({
    touches: lab.backend === "udp" ? ALL : NONE,
    inject: () => restartAll(lab),
  }),
};

const stopped: Fault = {
  name: "SIGSTOP for longer than the lease",
  expectation: "peers drop its routes when its lease expires; it reclaims the same subnet",
  nodes: 1,
  make(lab, [node]) {
    const before = lab.leaseKey(node);
    return {
      touches: pairsOf(node),
      inject: async () => {
        const since = Date.now();
        lab.nodes[node].agent?.kill("SIGSTOP");
        await lab.expire(node, since);
        await pause(1_000);
      },
      heal: async () => {
        await Promise.resolve(lab.nodes[node].agent?.kill("SIGCONT"));
      },
      after: async () => await lab.leaseKey(node) === await before ? "same subnet" : "other subnet",
    };
  },
};

/**
 * A clock that jumps, for the agent's process alone, by libfaketime: the machine's own must not move,
 * and time namespaces know the monotonic clocks only. Its monotonic clock goes on as it was, as it
 * does when a real clock is set.
 */
function clockJumps(name: string, seconds: number): Fault {
  return {
    name,
    expectation: "the lease is renewed in time and stays; nothing else happens",
    notForGo: "Go asks the kernel for the time without the C library that libfaketime replaces",
    nodes: 1,
    make(lab, [node]) {
      const file = `${lab.nodes[node].folder}/clock`;
      const set = async (offset: number) => {
        await Deno.writeTextFile(`${file}.new`, `${offset < 0 ? "" : "+"}${offset}\n`);
        await Deno.rename(`${file}.new`, file);
      };
      let before: string;
      let since: number;
      return {
        touches: carriedBy(lab.backend, node),
        inject: async () => {
          await set(0);
          before = await lab.leaseKey(node);
          await lab.restartAgent(node, {
            env: {
              LD_PRELOAD: FAKETIME,
              FAKETIME_TIMESTAMP_FILE: file,
              FAKETIME_CACHE_DURATION: "1",
              FAKETIME_DONT_FAKE_MONOTONIC: "1",
            },
          });
          // etcd may be down meanwhile.
          await lab.nodes[node].waitReady(60_000);
          since = Date.now();
          await set(seconds);
          await pause(lab.options.ttl * 1500);
        },
        heal: () => set(0),
        after: async () => {
          await pause(lab.options.ttl * 1500);
          // Without the library again.
          const expired = lab.history.deletedAt(before, since);
          const seen = hasHour(lab.nodes[node].agent!.lines, Date.now() + seconds * 1000);
          await lab.restartAgent(node);
          await lab.nodes[node].waitReady();
          await Deno.remove(file);
          return `${expired ? "the lease ended" : "the lease stayed"}, ` +
            (seen ? "its log shows the jump" : "its log does not show the jump");
        },
      };
    },
  };
}

/** Whether a log has a line of about this time, by the hour. */
function hasHour(lines: string[], time: number): boolean {
  const hours = [0, 30, 60].map((minutes) => new Date(time - minutes * 60_000).getHours());
  return lines.some((line) => hours.includes(Number(/^[IWE]\d{4} (\d\d):/.exec(line)?.[1])));
}

const diskFull: Fault = {
  name: "disk full for the subnet file",
  expectation: "the old file stays intact and forwarding works; it is written once there is room",
  nodes: 1,
  make(lab, [node]) {
    const { subnetFile, folder } = lab.nodes[node];
    let before = "";
    return {
      touches: carriedBy(lab.backend, node),
      inject: async () => {
        before = await Deno.readTextFile(subnetFile);
        const fill = ["if=/dev/zero", `of=${folder}/fill`, "bs=1k"];
        await lab.nodes[node].ns.exec("dd", ...fill);
        await lab.restartAgent(node);
        await pause(3_000);
        const now = await Deno.readTextFile(subnetFile).catch(() => "");
        return now === before ? "the old file stayed" : `the file is ${JSON.stringify(now)}`;
      },
      heal: () => Deno.remove(`${folder}/fill`),
      after: async () => {
        const files = [...Deno.readDirSync(folder)].map(({ name }) => name);
        const now = await Deno.readTextFile(subnetFile).catch(() => "");
        const left = files.filter((name) => name !== "subnet.env");
        return [
          now === before ? "the file is right" : `the file is ${JSON.stringify(now)}`,
          ...(left.length > 0 ? [`left behind: ${left}`] : []),
        ].join(", ");
      },
    };
  },
};

/** All of them. */
export const AGENT_FAULTS = [
  killed,
  allRestarted,
  stopped,
  clockJumps("clock jumps forward", JUMP),
  clockJumps("clock jumps back", -JUMP),
  diskFull,
];

/** Ends all agents and starts them at once. */
export async function restartAll(lab: Lab): Promise<void> {
  await Promise.all(lab.nodes.map(({ index }) => lab.stopAgent(index)));
  for (const { index } of lab.nodes) lab.startAgent(index);
}

/** The pairs that lose packets while a node's agent is not there: those that pass through it. */
function carriedBy(backend: BackendName, node: number): (pair: Pair) => boolean {
  return backend === "udp" ? pairsOf(node) : NONE;
}
