/**
 * Faults of etcd: forwarding goes on as if nothing had happened.
 *
 * @module
 */
import { PREFIX } from "../../testbed/cluster.ts";
import { type Fault, NONE, pause } from "./fault.ts";
import type { Lab } from "./lab.ts";

/** Milliseconds in which the agents must follow etcd while one member is away. */
const MEANWHILE = 60_000;

const leaderKilled: Fault = {
  name: "etcd leader killed",
  expectation: "a changed lease arrives while the member is still down",
  etcd: true,
  nodes: 0,
  make(lab) {
    let leader = 0;
    return {
      touches: NONE,
      inject: async () => {
        leader = await lab.leader();
        await lab.cluster.etcds[leader].stop();
        return await follows(lab);
      },
      heal: () => lab.cluster.etcds[leader].restart(),
    };
  },
};

const memberCutOff: Fault = {
  name: "etcd member cut off",
  expectation: "agents on a member without its cluster switch to another one",
  etcd: true,
  nodes: 0,
  make(lab) {
    let member = 0;
    const rules = ["INPUT", "OUTPUT"].flatMap((chain) =>
      ["--dport", "--sport"].map((end) => [chain, "-p", "tcp", end, "2380", "-j", "DROP"])
    );
    const block = async (action: "-I" | "-D") => {
      for (const rule of rules) {
        await lab.cluster.etcdHosts[member].run("iptables", action, ...rule);
      }
    };
    return {
      touches: NONE,
      inject: async () => {
        member = await busiestMember(lab);
        await block("-I");
        return await follows(lab);
      },
      heal: () => block("-D"),
    };
  },
};

const down: Fault = {
  name: "all etcd down",
  expectation: "forwarding continues with the last known peers; each node keeps its subnet",
  etcd: true,
  nodes: 0,
  make: (lab) => ({
    touches: NONE,
    inject: async () => {
      await stopAll(lab);
      await pause(lab.options.outage * 1000);
      return `down for ${lab.options.outage} s`;
    },
    heal: () => startAll(lab),
  }),
};

const downExpired: Fault = {
  name: "all etcd down, leases expired",
  expectation: "each node reclaims its lease under the same subnet; forwarding continues",
  etcd: true,
  alone: true,
  nodes: 0,
  make(lab) {
    const all = lab.nodes.map(({ index }) => index);
    let before: string[] = [];
    const keys = () => Promise.all(all.map((index) => lab.leaseKey(index)));
    return {
      touches: NONE,
      inject: async () => {
        before = await keys();
        await stopAll(lab);
        // etcd gives all leases their full time when it is back, so the nodes have to be later.
        await Promise.all(all.map((index) => lab.cutFromEtcd(index, true)));
        await startAll(lab);
        const since = Date.now();
        await Promise.all(all.map((index) => lab.expire(index, since)));
      },
      heal: async () => {
        await Promise.all(all.map((index) => lab.cutFromEtcd(index, false)));
      },
      after: async () => {
        const now = await keys();
        const moved = before.filter((key, index) => now[index] !== key);
        return moved.length > 0 ? `other subnets than before: ${moved.length}` : "same subnets";
      },
    };
  },
};

const compaction: Fault = {
  name: "compaction and defragmentation",
  expectation: "a node that missed compacted changes reads all leases again",
  etcd: true,
  nodes: 1,
  make: (lab, [node]) => ({
    touches: NONE,
    inject: async () => {
      await lab.cutFromEtcd(node, true);
      const key = `${PREFIX}/subnets/10.1.0.128-25`;
      for (let count = 0; count < 20; count++) {
        await lab.ctlUntil("put", key, `{"PublicIP":"192.168.77.201","count":${count}}`);
      }
      await lab.ctlUntil("del", key);
      const revision = await lab.revision();
      // The history itself must have seen all of it.
      await lab.history.reach(revision);
      await lab.ctlUntil("compaction", "--physical", String(revision));
      for (const etcd of lab.cluster.etcds) await etcd.ctl("defrag");
    },
    heal: () => lab.cutFromEtcd(node, false),
  }),
};

/** All of them. */
export const ETCD_FAULTS = [leaderKilled, memberCutOff, down, downExpired, compaction];

/** How long it takes until a new lease is on all nodes, while the fault lasts. */
async function follows(lab: Lab): Promise<string | void> {
  if (!lab.showsPeers) return;
  const since = Date.now();
  try {
    const at = await lab.canary(since, MEANWHILE);
    return `meanwhile a new lease is on all nodes after ${((at - since) / 1000).toFixed(1)} s`;
  } catch (error) {
    return `meanwhile: ${error}`;
  }
}

async function stopAll(lab: Lab): Promise<void> {
  await Promise.all(lab.cluster.etcds.map((etcd) => etcd.stop()));
}

async function startAll(lab: Lab): Promise<void> {
  await Promise.all(lab.cluster.etcds.map((etcd) => etcd.restart()));
}

/** The member that most agents are connected to. */
async function busiestMember(lab: Lab): Promise<number> {
  const texts = await Promise.all(
    lab.nodes.map(({ ns }) => ns.run("ss", "-Htn", "state", "established", "dport", "=", ":2379")),
  );
  const counts = lab.cluster.etcds.map(({ address }) => texts.join("").split(address).length - 1);
  return counts.indexOf(Math.max(...counts));
}
