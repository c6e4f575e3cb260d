/**
 * The lab's second part: what is to be seen on the nodes, and packets that cross.
 *
 * @module
 */
import assert from "node:assert/strict";
import { bridgeAddress, type Facts, gateway, overlayMtu } from "./facts.ts";
import type { Machine } from "../machine.ts";
import { type NodeName, NODES } from "./place.ts";
import { type Entry, matches } from "./step.ts";

/** Port of the chat. */
const CHAT_PORT = 8889;

const ANSWERED = /1 packets transmitted, 1 received, 0% packet loss/;

/** Interfaces and routes of both nodes. */
export function* investigate(facts: Facts): Generator<Entry> {
  yield { chapter: "Looking at the network" };
  for (const on of NODES) {
    yield { on, command: "ip a show", check: matches(...interfaces(on, facts)) };
    yield { on, command: "ip route show", check: matches(...routes(on, facts)) };
  }
}

function interfaces(on: NodeName, facts: Facts): RegExp[] {
  const base = facts[on].subnet.replace(/\/24$/, "/32");
  const mtu = overlayMtu(facts.backend);
  return [
    line(`inet ${bridgeAddress(facts, on)} .* docker0`),
    ...{
      "aws-vpc": [],
      vxlan: [line(`flannel\\.1: .* mtu ${mtu} `), line(`inet ${base} .* flannel\\.1`)],
      udp: [line(`flannel0: .* mtu ${mtu} `), line(`inet ${base} .* flannel0`)],
    }[facts.backend],
  ];
}

function routes(on: NodeName, facts: Facts): RegExp[] {
  const peer = facts[other(on)].subnet;
  return [
    line("default via 172.31.16.1 dev eth0"),
    line(`${facts[on].subnet} dev docker0 proto kernel scope link`),
    ...{
      "aws-vpc": [],
      vxlan: [line(`${peer} via ${peer.split("/")[0]} dev flannel\\.1 .*onlink`)],
      udp: [line("10.1.0.0/16 dev flannel0")],
    }[facts.backend],
  ];
}

/** What the VPC needs besides, which the lab's instructor took care of. */
export function* doctor({ vpc }: Facts): Generator<Entry> {
  if (!vpc) return;
  yield { chapter: "What AWS has to allow" };
  yield {
    on: "nodea",
    command: "sudo ./dist/flanneld doctor aws-vpc",
    // What only the doctor asks for, and what nobody needs any more, the lab's policy leaves out.
    check: matches(/^pass +source\/dest check: off on /m, /^\d+ passed, \d+ warnings?, 0 failed$/m),
  };
}

/** Docker's bridges reach each other. */
export function* pings(facts: Facts): Generator<Entry> {
  yield { chapter: "Pings from docker0 to docker0" };
  for (const on of NODES) {
    yield {
      on,
      command: `ping -c 1 ${gateway(facts, other(on))}`,
      check: matches(ANSWERED),
    };
  }
  // IPv4's header and ICMP's take 28 bytes of the MTU.
  const size = overlayMtu(facts.backend) - 28;
  yield {
    on: "nodea",
    command: `ping -c 1 -M do -s ${size} ${gateway(facts, "nodeb")}`,
    check: matches(ANSWERED),
  };
}

/** The chat, by telnet on nodea and nc in a container on nodeb. */
export function* chat(facts: Facts): Generator<Entry> {
  yield { chapter: "A chat between the nodes" };
  yield {
    on: "nodeb",
    terminal: "container",
    running: `docker container run --rm -it -p ${CHAT_PORT} busybox nc -l -p ${CHAT_PORT}`,
    ready: containerListens(CHAT_PORT),
  };
  yield* containerAddress("nodeb", facts);
  // A bridge has the least MTU of its ports, so Docker's has its own only beside a container.
  yield {
    on: "nodeb",
    command: "ip a show docker0",
    check: matches(line(`docker0: .* mtu ${overlayMtu(facts.backend)} `)),
  };
  const ip = facts.nodeb.container;
  yield {
    on: "nodea",
    terminal: "chat",
    running: `telnet ${ip} ${CHAT_PORT}`,
    ready: /Escape character is/,
  };
  yield { on: "nodea", terminal: "chat", keys: "hello!\n", shown: "hello!", until: /$/ };
  yield { on: "nodeb", terminal: "container", keys: "", shown: "", until: /hello!/ };
  yield { on: "nodeb", terminal: "container", keys: "hi\n", shown: "hi", until: /hi/ };
  yield { on: "nodea", terminal: "chat", keys: "", shown: "", until: /^hi$/m };
  yield { on: "nodea", terminal: "chat", keys: "\x1d", shown: "^]", until: /telnet> / };
  yield {
    on: "nodea",
    terminal: "chat",
    keys: "q\n",
    shown: "q",
    check: matches(/Connection closed\./),
  };
  yield { on: "nodeb", terminal: "container", keys: "", shown: "" };
}

/** A web page of a container on nodeb, fetched by one on nodea. */
export function* web(facts: Facts): Generator<Entry> {
  yield { chapter: "A web page between containers" };
  yield {
    on: "nodeb",
    terminal: "container",
    running: "docker container run -p 80 web",
    ready: containerListens(80),
  };
  yield* containerAddress("nodeb", facts);
  const ip = facts.nodeb.container;
  yield {
    on: "nodea",
    terminal: "container",
    running: "docker container run --rm -it busybox sh",
    ready: /# /,
  };
  yield {
    on: "nodea",
    terminal: "container",
    keys: `wget -q -O - http://${ip}/\n`,
    shown: `wget -q -O - http://${ip}/`,
    until: /<h1>Welcome to the lab!<\/h1>/,
  };
  yield { on: "nodea", terminal: "container", keys: "exit\n", shown: "exit" };
  yield { on: "nodea", command: `curl --head ${ip}`, check: matches(/^HTTP\/1\.\d 200 OK/m) };
  yield {
    on: "nodeb",
    terminal: "container",
    keys: "",
    shown: "",
    until: /response:200[\s\S]*response:200/,
  };
  yield { on: "nodeb", command: "docker container kill $ID" };
  yield { on: "nodeb", terminal: "container", keys: "", shown: "", status: 137 };
}

/** Ready when the one container of a node listens at a TCP port. */
function containerListens(port: number): (machine: Machine) => Promise<void> {
  const socket = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, "0")} 0+:0000 0A`);
  return async (machine) => {
    const id = (await machine.run("docker", "container", "ls", "-q")).trim();
    const show = ["container", "exec", id, "cat", "/proc/net/tcp", "/proc/net/tcp6"];
    assert.match(await machine.run("docker", ...show), socket);
  };
}

/** The address of the one container that runs on a node. */
function* containerAddress(on: NodeName, facts: Facts): Generator<Entry> {
  yield {
    on,
    command: "ID=$(docker container ls -q) && echo $ID",
    check: matches(/^[0-9a-f]{12}\n$/),
  };
  yield {
    on,
    command: "docker container inspect -f '{{ .NetworkSettings.Networks.bridge.IPAddress }}' $ID",
    check: (printed) => {
      facts[on].container = printed.trim();
      const subnet = facts[on].subnet.replace(/0\/24$/, "");
      assert.ok(facts[on].container.startsWith(subnet), `${printed} lies in ${subnet}`);
    },
  };
}

function other(on: NodeName): NodeName {
  return on === "nodea" ? "nodeb" : "nodea";
}

/** A line that has this, whose dots are dots. */
function line(text: string): RegExp {
  return new RegExp(text.replaceAll(/(\d)\.(?=\d)/g, "$1\\."), "m");
}
