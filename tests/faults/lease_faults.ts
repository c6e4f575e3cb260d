/**
 * Faults that people make: in the leases, in a node's flags, in the network config.
 *
 * @module
 */
import { PREFIX } from "../../testbed/cluster.ts";
import { restartAll } from "./agent_faults.ts";
import { ALL, type Fault, NONE, pairsOf, pause } from "./fault.ts";
import type { Lab } from "./lab.ts";

/** Milliseconds that a wrong setting stays. */
const STAY = 5_000;

const deleted: Fault = {
  name: "lease deleted by an operator",
  expectation: "the node reclaims the same subnet at once",
  nodes: 1,
  make(lab, [node]) {
    let before = "";
    return {
      touches: pairsOf(node),
      inject: async () => {
        before = await lab.leaseKey(node);
        await lab.ctlUntil("del", `${PREFIX}/subnets/${before}`);
      },
      after: async () => await lab.leaseKey(node) === before ? "same subnet" : "other subnet",
    };
  },
};

const samePublicIP: Fault = {
  name: "two nodes with the same public IP",
  expectation: "the second one logs it and gets no lease; the first keeps its own",
  nodes: 2,
  make: (lab, [first, second]) => ({
    touches: pairsOf(first, second),
    inject: async () => {
      const since = Date.now();
      await lab.restartAgent(second, { args: [`--public-ip=${lab.nodes[first].ipv4}`] });
      await pause(STAY);
      const shared = await lab.sharedSubnets();
      const writes = lab.history.events.filter(({ seen }) => seen >= since).length;
      const state = await lab.agentProblem(lab.nodes[second]) ?? "ready";
      return `writes to etcd in 5 s: ${writes}; shared subnets: ${shared.length}; second: ${state}`;
    },
    heal: () => lab.restartAgent(second),
  }),
};

const backendChanged: Fault = {
  name: "backend changed in the config",
  expectation:
    "agents log it and continue; the next start uses it, and nothing of the old one stays",
  alone: true,
  nodes: 0,
  make(lab) {
    const before = lab.options.backend;
    return {
      touches: ALL,
      inject: async () => {
        const since = Date.now();
        await lab.writeConfig({ Backend: { Type: "host-gw" } });
        await pause(STAY);
        const lost = lostSince(lab, since);
        lab.backend = "host-gw";
        await restartAll(lab);
        return `lost before the restart: ${lost}`;
      },
      after: async () => {
        await lab.writeConfig();
        lab.backend = before;
        await restartAll(lab);
      },
    };
  },
};

const networkChanged: Fault = {
  name: "network changed in the config",
  expectation: "agents log it and continue; the next start uses it and keeps a subnet that fits",
  alone: true,
  nodes: 0,
  make: (lab) => ({
    touches: lab.backend === "udp" ? ALL : NONE,
    inject: async () => {
      await lab.writeConfig({ Network: "10.0.0.0/8", SubnetLen: 24 });
      await pause(STAY);
      await restartAll(lab);
    },
    after: async () => {
      const rules = await lab.nodes[0].ns.run("iptables-save");
      await lab.writeConfig();
      await restartAll(lab);
      return rules.includes("10.1.0.0/16") ? "rules of the old network stayed" : "old rules gone";
    },
  }),
};

/** All of them. */
export const LEASE_FAULTS = [deleted, samePublicIP, backendChanged, networkChanged];

function lostSince(lab: Lab, since: number): number {
  const span = { since, until: Date.now() - 500 };
  return [...lab.ledger.pairs()].map((pair) => lab.ledger.losses(pair, span).lost.length)
    .reduce((sum, lost) => sum + lost, 0);
}
