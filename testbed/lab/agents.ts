/**
 * The lab's first part: etcd, flanneld on each node, and Docker on flanneld's subnet.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  bridgeAddress,
  CONFIG_KEY,
  configText,
  type Facts,
  NETWORK,
  overlayMtu,
  SUBNETS_KEY,
} from "./facts.ts";
import { IMAGE, NODE_IPS, type NodeName, NODES } from "./place.ts";
import { type Entry, equals, listening, matches } from "./step.ts";

/** Where Docker answers. */
const DOCKER_READY = /API listen on \/var\/run\/docker\.sock/;

/** Docker as it is on a node before the lab. */
export function* before(): Generator<Entry> {
  yield { chapter: "Before the lab" };
  for (const on of NODES) {
    yield* startDocker(on);
    yield { on, command: `docker import ${IMAGE} busybox`, check: matches(/^sha256:/) };
    yield {
      on,
      command:
        `docker import --change 'CMD ["httpd","-f","-v","-p","80","-h","/www"]' ${IMAGE} web`,
      check: matches(/^sha256:/),
    };
    // What flanneld has to get its packets through.
    yield { on, command: "sudo iptables -S FORWARD", check: matches(/^-P FORWARD DROP$/m) };
  }
}

/** etcd on nodea, for both nodes. */
export function* etcd(): Generator<Entry> {
  yield { chapter: "etcd" };
  yield {
    on: "nodea",
    command: "ip a show eth0",
    check: matches(/mtu 9001/, /inet 172\.31\.28\.198\/20/),
  };
  yield { on: "nodea", command: "rm -Rf ~/default.etcd/" };
  yield {
    on: "nodea",
    terminal: "etcd",
    running: "etcd --listen-client-urls 'http://0.0.0.0:2379' " +
      `--advertise-client-urls 'http://${NODE_IPS.nodea}:2379'`,
    ready: /ready to serve client requests/,
    show: /ready to serve client requests/,
  };
}

/** The program and the network config. */
export function* configure({ backend }: Facts): Generator<Entry> {
  yield { chapter: "flanneld and its config" };
  yield { on: "nodea", command: "cd ~/flanneld" };
  yield { on: "nodea", command: "./dist/flanneld -version", check: matches(/^\S+\n$/) };
  yield { on: "nodea", command: `etcdctl get ${CONFIG_KEY}`, check: equals("") };
  yield {
    on: "nodea",
    command: `etcdctl put ${CONFIG_KEY} \\\n'${configText(backend)}'`,
    check: equals("OK\n"),
  };
  yield {
    on: "nodea",
    command: `etcdctl get ${CONFIG_KEY}`,
    check: equals(`${CONFIG_KEY}\n${configText(backend)}\n`),
  };
  yield { on: "nodea", command: "./dist/flanneld config validate", check: matches(/"Network"/) };
}

/** flanneld on a node. */
export function* startFlanneld(on: NodeName, facts: Facts): Generator<Entry> {
  const home = on === "nodea" ? "~/flanneld" : "~";
  const host = on === "nodea" ? "localhost" : "nodea";
  yield { chapter: `Starting flanneld on ${on}` };
  yield { on, terminal: "flanneld", command: `cd ${home}` };
  yield {
    on,
    terminal: "flanneld",
    running: `sudo ./dist/flanneld --etcd-endpoints=http://${host}:2379`,
    ready: /(?=[\s\S]*Waiting for .* to renew lease)(?=[\s\S]*Adding iptables rule: -d)/,
    check: (log) => {
      for (const line of logLines(on, facts)) assert.match(log, line);
      assert.doesNotMatch(log, /^E/m);
      facts[on].subnet = /Allocated lease \((\S+)\)/.exec(log)![1];
    },
  };
  yield {
    on,
    command: `ETCDCTL_ENDPOINTS=http://${host}:2379 etcdctl get --prefix ${SUBNETS_KEY}`,
    check: (printed) => {
      const key = `${SUBNETS_KEY}/${facts[on].subnet.replace("/", "-")}`;
      const value = printed.split("\n")[printed.split("\n").indexOf(key) + 1];
      assert.equal(JSON.parse(value).PublicIP, NODE_IPS[on]);
    },
  };
  yield {
    on,
    command: "sudo iptables -S FORWARD; sudo iptables -S FLANNEL-FWD",
    // The log tells of the rules before they are there.
    again: true,
    check: matches(
      /^-P FORWARD ACCEPT$/m,
      /^-A FORWARD .*-j FLANNEL-FWD$/m,
      /^-A FLANNEL-FWD -s 10\.1\.0\.0\/16 .*-j ACCEPT$/m,
      /^-A FLANNEL-FWD -d 10\.1\.0\.0\/16 .*-j ACCEPT$/m,
    ),
  };
}

/** The node's route in the VPC's route table. */
export function* routeTable(on: NodeName, { vpc, ...facts }: Facts): Generator<Entry> {
  if (!vpc) return;
  yield {
    look: `The VPC's route table ${vpc.tableId}`,
    see: () => vpc.table(),
    check: matches(new RegExp(`^${facts[on].subnet} +${vpc.enis[on]} +active$`, "m")),
  };
}

/** The lines that the lab shows. */
function logLines(on: NodeName, { backend, vpc }: Facts): RegExp[] {
  const ip = NODE_IPS[on].replaceAll(".", "\\.");
  const ofVpc = vpc
    ? [
      /\] Backend configured as: \{"Type":"aws-vpc"\}$/m,
      new RegExp(`\\] Found ${vpc.enis[on]} that has ${ip} IP address\\.$`, "m"),
      new RegExp(
        `^W.*\\] failed to disable SourceDestCheck on ${
          vpc.enis[on]
        }: UnauthorizedOperation: You ` +
          "are not authorized to perform this operation\\. status code: 403, request id: " +
          "[0-9a-f-]{36}; it is already off, so no action is needed$",
        "m",
      ),
      /\] Route table configured: false$/m,
      new RegExp(`\\] Found route table ${vpc.tableId}\\.$`, "m"),
      new RegExp(
        `\\] Route added to table ${vpc.tableId}: 10\\.1\\.\\d+\\.0/24 - ${vpc.enis[on]}\\.$`,
        "m",
      ),
    ]
    : [];
  return [
    ...ofVpc,
    /\] Determining IP address of default interface$/m,
    new RegExp(`\\] Using interface with name eth0 and address ${ip}$`, "m"),
    new RegExp(`\\] Defaulting external address to interface address \\(${ip}\\)$`, "m"),
    /\] Created subnet manager: Etcd Local Manager with Previous Subnet: None$/m,
    new RegExp(`\\] Found network config - Backend type: ${backend}$`, "m"),
    /\] Picking subnet in range 10\.1\.1\.0 \.\.\. 10\.1\.255\.0$/m,
    new RegExp(`\\] Allocated lease \\(10\\.1\\.\\d+\\.0/24\\) to current node \\(${ip}\\)`, "m"),
    /\] Changing default FORWARD chain policy to ACCEPT$/m,
    /\] Wrote subnet file to \/run\/flannel\/subnet\.env$/m,
    /\] Running backend\.$/m,
    /\] Waiting for 2[23]h\d+m[\d.]+s to renew lease$/m,
    /\] Some iptables rules are missing; deleting and recreating rules$/m,
    /\] Adding iptables rule: -s 10\.1\.0\.0\/16 .*-j ACCEPT$/m,
    /\] Adding iptables rule: -d 10\.1\.0\.0\/16 .*-j ACCEPT$/m,
  ];
}

/** Docker on the leased subnet. */
export function* configureDocker(on: NodeName, facts: Facts): Generator<Entry> {
  const bip = bridgeAddress(facts, on);
  const mtu = overlayMtu(facts.backend);
  const folder = on === "nodea" ? "" : "cd ~; ";
  yield { chapter: `Docker on ${on}` };
  yield { on, terminal: "docker", keys: "\x03", shown: "^C", show: /Daemon shutdown complete/ };
  yield { on, command: "ip a show docker0", check: matches(/inet 172\.17\.0\.1\/16/) };
  yield { on, command: "sudo ip addr del 172.17.0.1/16 dev docker0" };
  yield {
    on,
    command: "cat /var/run/flannel/subnet.env",
    check: equals(
      `FLANNEL_NETWORK=${NETWORK}\nFLANNEL_SUBNET=${bip}\nFLANNEL_MTU=${mtu}\n` +
        "FLANNEL_IPMASQ=false\n",
    ),
  };
  yield {
    on,
    command: `${folder}sudo ./dist/flanneld docker-opts --daemon-json /etc/docker/daemon.json`,
    check: matches(/restart Docker/),
  };
  yield {
    on,
    command: "cat /etc/docker/daemon.json",
    check: (text) => assert.deepEqual(JSON.parse(text), { bip, mtu }),
  };
  yield* startDocker(on);
  yield {
    on,
    command: "ip a show docker0",
    check: matches(new RegExp(`inet ${bip.replaceAll(".", "\\.")} .* docker0`)),
  };
  yield {
    on,
    command: "docker container run --rm busybox ip a show eth0",
    check: matches(
      new RegExp(`mtu ${mtu} `),
      new RegExp(`inet ${bip.replace(/\.1\/24$/, ".2/24").replaceAll(".", "\\.")} `),
    ),
  };
}

function* startDocker(on: NodeName): Generator<Entry> {
  yield {
    on,
    terminal: "docker",
    running: "sudo dockerd",
    ready: DOCKER_READY,
    show: /Daemon has completed|API listen/,
  };
}

/** The program's way to nodeb. */
export function* copyBinary(): Generator<Entry> {
  yield { chapter: "Copying flanneld to nodeb" };
  yield {
    on: "nodeb",
    terminal: "flanneld",
    running: "netcat -l -p 7000 | tar xv",
    ready: listening(7000),
  };
  yield { on: "nodea", command: "tar cf - dist/flanneld | nc -N nodeb 7000" };
  yield {
    on: "nodeb",
    terminal: "flanneld",
    keys: "",
    shown: "",
    check: matches(/dist\/flanneld/),
  };
}
