/**
 * The lab's third part: a pod on nodea, its network made by CNI as kubelet has it made.
 *
 * @module
 */
import assert from "node:assert/strict";
import { bridgeAddress, type Facts, overlayMtu } from "./facts.ts";
import { type Entry, listening, matches } from "./step.ts";

/** Debian's CNI plugins. */
const PLUGINS = "/usr/lib/cni";

const CONF = "/etc/cni/net.d/10-flannel.conf";

/** A pod's namespace, its network by `bridge` and `host-local`, a web server in it. */
export function* pod(facts: Facts): Generator<Entry> {
  yield { chapter: "A pod" };
  yield { on: "nodea", terminal: "docker", keys: "\x03", shown: "^C", show: /shutdown complete/ };
  yield { on: "nodea", command: "sudo ip link delete docker0" };
  yield {
    on: "nodea",
    command: ". /run/flannel/subnet.env; sudo mkdir -p /etc/cni/net.d; \\\n" +
      `sudo tee ${CONF} <<EOF\n${CONF_TEXT}\nEOF`,
    check: (text) => {
      const { mtu, ipam } = JSON.parse(text);
      assert.deepEqual([mtu, ipam.subnet], [overlayMtu(facts.backend), facts.nodea.subnet]);
    },
  };
  yield { on: "nodea", command: "sudo ip netns add poda" };
  yield {
    on: "nodea",
    command: cni("ADD"),
    check: (printed) => {
      const { ips: [{ address }] } = JSON.parse(printed);
      facts.pod = address.split("/")[0];
      const subnet = facts.nodea.subnet.replace(/0\/24$/, "");
      assert.ok(facts.pod.startsWith(subnet), `${facts.pod} lies in ${subnet}`);
    },
  };
  yield {
    on: "nodea",
    command: "ip a show cni0",
    check: matches(new RegExp(`inet ${bridgeAddress(facts, "nodea")} `)),
  };
  yield {
    on: "nodea",
    terminal: "pod",
    running: "sudo ip netns exec poda busybox httpd -f -v -p 80 -h /srv",
    ready: listening(80, "ip", "netns", "exec", "poda"),
  };
  yield {
    on: "nodeb",
    command: `curl --head ${facts.pod}/busybox.tar`,
    check: matches(/^HTTP\/1\.\d 200 OK/m),
  };
  yield { on: "nodea", terminal: "pod", keys: "\x03", shown: "^C", status: 130 };
  yield { on: "nodea", command: cni("DEL") };
  yield { on: "nodea", command: "sudo ip netns delete poda" };
}

/** The shell fills in what the subnet file says. */
const CONF_TEXT = `{
  "cniVersion": "0.4.0",
  "name": "flannel",
  "type": "bridge",
  "bridge": "cni0",
  "isGateway": true,
  "mtu": $FLANNEL_MTU,
  "ipam": {
    "type": "host-local",
    "subnet": "\${FLANNEL_SUBNET%.*}.0/24",
    "routes": [{ "dst": "0.0.0.0/0" }]
  }
}`;

function cni(command: "ADD" | "DEL"): string {
  return `sudo env CNI_COMMAND=${command} CNI_CONTAINERID=poda CNI_NETNS=/run/netns/poda \\\n` +
    `CNI_IFNAME=eth0 CNI_PATH=${PLUGINS} ${PLUGINS}/bridge < ${CONF}`;
}
