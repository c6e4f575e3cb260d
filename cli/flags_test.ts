import assert from "node:assert/strict";
import { envName, FLAG_NAMES, type FlagName, flagOf } from "./flags.ts";

// flannel's flags with their defaults.
const FLANNEL: Record<string, string | number | boolean | string[]> = {
  "etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379",
  "etcd-prefix": "/coreos.com/network",
  "etcd-keyfile": "",
  "etcd-certfile": "",
  "etcd-cafile": "",
  "etcd-username": "",
  "etcd-password": "",
  "iface": [],
  "iface-regex": [],
  "iface-can-reach": "",
  "subnet-file": "/run/flannel/subnet.env",
  "public-ip": "",
  "public-ipv6": "",
  "subnet-lease-renew-margin": 60,
  "ip-masq": false,
  "ip-masq-fully-random-disable": false,
  "kube-subnet-mgr": false,
  "kube-api-url": "",
  "kube-annotation-prefix": "flannel.alpha.coreos.com",
  "kubeconfig-file": "",
  "healthz-ip": "0.0.0.0",
  "healthz-port": 0,
  "iptables-resync": 5,
  "iptables-forward-rules": true,
  "ip-blackhole-route": false,
  "net-config-path": "/etc/kube-flannel/net-conf.json",
  "set-node-network-unavailable": true,
  "v": 0,
  "version": false,
};
const OURS = ["bridge", "etcd-password-file", "iptables-forward-policy", "subnet-lease-ttl"];

Deno.test("every flag of flannel's is there with its default, and no others but ours", () => {
  const defaults = FLAG_NAMES.filter((name) => !OURS.includes(name))
    .map((name) => [name, flagOf(name).default]);
  assert.deepEqual(Object.fromEntries(defaults), FLANNEL);
});

Deno.test("environment names are flannel's", () => {
  assert.equal(envName("etcd-endpoints"), "FLANNELD_ETCD_ENDPOINTS");
  assert.equal(envName("v"), "FLANNELD_V");
});

Deno.test("no default is refused by its own check", () => {
  for (const name of FLAG_NAMES) {
    const flag = flagOf(name as FlagName);
    if (flag.default !== "") assert.equal(flag.check?.(flag.default), undefined, name);
  }
});
