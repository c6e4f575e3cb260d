/**
 * Faults of a node's network, and what others do to its kernel's tables.
 *
 * @module
 */
import { type Fault, pairsOf, pause } from "./fault.ts";
import { DEVICE } from "./kernel.ts";
import type { Lab } from "./lab.ts";

const GATEWAY = "192.168.77.1";

const partition: Fault = {
  name: "node cut off for longer than the lease",
  expectation: "peers drop its routes when its lease expires; it reclaims the same subnet",
  nodes: 1,
  make(lab, [node]) {
    const before = lab.leaseKey(node);
    // The port stays up, so that the node hears nothing of it, as behind a switch that failed.
    const port = (state: "0" | "3") =>
      lab.cluster.switch.run("bridge", "link", "set", "dev", `p${node}`, "state", state);
    return {
      touches: pairsOf(node),
      inject: async () => {
        const since = Date.now();
        await port("0");
        await lab.expire(node, since);
      },
      heal: async () => {
        await port("3");
      },
      after: async () => await lab.leaseKey(node) === await before ? "same subnet" : "other subnet",
    };
  },
};

const briefPartition: Fault = {
  name: "node cut off for 5 s",
  expectation: "its lease and the peers' routes stay",
  nodes: 1,
  make(lab, [node]) {
    const port = (state: "0" | "3") =>
      lab.cluster.switch.run("bridge", "link", "set", "dev", `p${node}`, "state", state);
    return {
      touches: pairsOf(node),
      inject: async () => {
        await port("0");
        await pause(5_000);
      },
      heal: async () => {
        await port("3");
      },
    };
  },
};

const iptablesFlushed: Fault = {
  name: "iptables flushed, policy DROP",
  expectation: "rules are back at the next check, at most 5 s later",
  nodes: 1,
  make: (lab, [node]) => ({
    touches: pairsOf(node),
    inject: async () => {
      const { ns } = lab.nodes[node];
      await ns.run("iptables", "-P", "FORWARD", "DROP");
      for (const table of ["filter", "nat"]) {
        await ns.run("iptables", "-t", table, "-F");
        await ns.run("iptables", "-t", table, "-X");
      }
    },
    after: async () => {
      await lab.nodes[node].ns.run("iptables", "-P", "FORWARD", "ACCEPT");
    },
  }),
};

const deviceDeleted: Fault = {
  name: "device deleted by hand",
  expectation: "the device and everything on it are back at once",
  nodes: 1,
  make: (lab, [node]) => ({
    touches: pairsOf(node),
    inject: async () => {
      await lab.nodes[node].ns.run("ip", "link", "del", deviceOf(lab));
    },
  }),
};

const entriesDeleted: Fault = {
  name: "routes, neighbours, fdb deleted by hand",
  expectation: "all entries are back at once",
  nodes: 1,
  make: (lab, [node]) => ({
    touches: pairsOf(node),
    inject: async () => {
      const { ns } = lab.nodes[node];
      await ns.run("ip", "route", "flush", "dev", deviceOf(lab));
      if (lab.backend !== "vxlan") return;
      await ns.exec("ip", "neigh", "flush", "dev", DEVICE, "nud", "permanent");
      const entries = await ns.run("bridge", "fdb", "show", "dev", DEVICE);
      for (const line of entries.split("\n").filter(Boolean)) {
        const [mac, , ip] = line.split(" ");
        await ns.exec("bridge", "fdb", "del", mac, "dev", DEVICE, "dst", ip);
      }
    },
  }),
};

const interfaceDown: Fault = {
  name: "interface down and up",
  expectation: "everything is back with the interface",
  nodes: 1,
  make: (lab, [node]) => ({
    touches: pairsOf(node),
    inject: async () => {
      await lab.nodes[node].ns.run("ip", "link", "set", "eth0", "down");
      await pause(3_000);
    },
    heal: async () => {
      const { ns } = lab.nodes[node];
      await ns.run("ip", "link", "set", "eth0", "up");
      // As whatever manages the network does.
      await ns.run("ip", "route", "replace", "default", "via", GATEWAY);
    },
  }),
};

const renumbered: Fault = {
  name: "interface renumbered",
  expectation: "the new address is announced, the subnet stays",
  nodes: 1,
  make(lab, [node]) {
    const before = lab.leaseKey(node);
    return {
      touches: pairsOf(node),
      inject: () => renumber(lab, node, 11 + node, 51 + node),
      after: async () => {
        const now = await lab.leaseKey(node);
        await renumber(lab, node, 51 + node, 11 + node);
        return now === await before ? "same subnet" : "other subnet";
      },
    };
  },
};

/** All of them. */
export const NODE_FAULTS = [
  partition,
  briefPartition,
  iptablesFlushed,
  deviceDeleted,
  entriesDeleted,
  interfaceDown,
  renumbered,
];

function deviceOf(lab: Lab): string {
  return lab.backend === "vxlan" ? DEVICE : "flannel0";
}

async function renumber(lab: Lab, node: number, from: number, to: number): Promise<void> {
  const { ns } = lab.nodes[node];
  const address = (host: number) => `192.168.77.${host}/24`;
  await ns.run("ip", "address", "del", address(from), "dev", "eth0");
  await ns.run("ip", "address", "add", address(to), "dev", "eth0");
  await ns.run("ip", "route", "replace", "default", "via", GATEWAY);
}
