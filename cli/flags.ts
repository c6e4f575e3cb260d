/**
 * The one table of flags. Parsing, help, environment names, man page and shell completions are all
 * made from it.
 *
 * Names, defaults and meaning are flannel's, but for the group "Containers" and `subnet-lease-ttl`.
 *
 * @module
 */
import {
  checkEndpoints,
  checkFile,
  checkForwardPolicy,
  checkInterfaceName,
  checkIP,
  checkNoDirectory,
  checkPublicIPv4,
  checkPublicIPv6,
  checkRange,
  checkRegExp,
} from "./checks.ts";

/** What each type of flag holds once parsed. */
export interface FlagTypes {
  string: string;
  int: number;
  bool: boolean;
  /** May be given several times; each time adds one entry. */
  list: string[];
}

/** The headings of `--help`, in its order. */
export const GROUPS = [
  "Store",
  "Lease",
  "Interface",
  "Containers",
  "Traffic rules",
  "Health",
  "Kubernetes",
  "General",
] as const;

/** One flag. */
export interface Flag<T extends keyof FlagTypes = keyof FlagTypes> {
  type: T;
  default: FlagTypes[T];
  group: typeof GROUPS[number];
  /** Name of the value in help; booleans have none. */
  value?: string;
  help: string;
  /** Why a parsed value is refused; undefined where it is good. Not called for an empty default. */
  check?: (value: FlagTypes[T]) => string | undefined;
  /** The feature behind it, where this version lacks it: anything but the default is refused. */
  missing?: string;
  /** Must not stay an argument, which every user of the host can read. */
  secret?: true;
  /** No environment variable sets it. */
  noEnv?: true;
  /** Shell completion offers file names. */
  file?: true;
  /** Shell completion offers the node's interfaces. */
  interface?: true;
  /** All values that there are, for shell completion; {@link check} refuses others. */
  choices?: readonly string[];
}

type Rest<T extends keyof FlagTypes> = Omit<Flag<T>, "type" | "default"> & {
  default?: FlagTypes[T];
};
const string = (rest: Rest<"string">): Flag<"string"> => ({
  default: "",
  value: "STRING",
  ...rest,
  type: "string",
});
const file = (rest: Rest<"string">): Flag<"string"> =>
  string({ value: "FILE", ...rest, file: true });
const int = (rest: Rest<"int">): Flag<"int"> => ({ default: 0, value: "N", ...rest, type: "int" });
const bool = (rest: Rest<"bool">): Flag<"bool"> => ({ default: false, ...rest, type: "bool" });
const list = (rest: Rest<"list">): Flag<"list"> => ({ default: [], ...rest, type: "list" });

const KUBERNETES = "leases through the Kubernetes API";

/** Every flag, by its name without dashes. */
export const FLAGS = {
  "etcd-endpoints": string({
    default: "http://127.0.0.1:4001,http://127.0.0.1:2379",
    group: "Store",
    value: "URLS",
    help: "Comma-separated URLs of the etcd servers (v3 API). Without a port: 2379.",
    check: checkEndpoints,
  }),
  "etcd-prefix": string({
    default: "/coreos.com/network",
    group: "Store",
    value: "PREFIX",
    help: "Prefix of the keys in etcd.",
  }),
  "etcd-cafile": file({
    group: "Store",
    help: "Certificate authority that signed the etcd servers' certificates, PEM.",
    check: checkFile,
  }),
  "etcd-certfile": file({
    group: "Store",
    help: "Client certificate, PEM.",
    check: checkFile,
  }),
  "etcd-keyfile": file({
    group: "Store",
    help: "Private key of the client certificate, PEM.",
    check: checkFile,
  }),
  "etcd-username": string({ group: "Store", value: "NAME", help: "User name for etcd." }),
  "etcd-password": string({
    group: "Store",
    value: "PASSWORD",
    help: "Password for etcd. Arguments are visible to every user of the host: prefer the " +
      "environment or --etcd-password-file.",
    secret: true,
  }),
  "etcd-password-file": file({
    group: "Store",
    help: "File with the password for etcd, instead of --etcd-password.",
    check: checkFile,
  }),
  "subnet-file": file({
    default: "/run/flannel/subnet.env",
    group: "Lease",
    help: "File to write this node's subnet, MTU and other settings to, as environment variables.",
    check: checkNoDirectory,
  }),
  "subnet-lease-renew-margin": int({
    default: 60,
    group: "Lease",
    value: "MINUTES",
    help: "How long before its expiry the lease is renewed, 1 to 1439 minutes.",
    check: checkRange(1, 1439),
  }),
  "subnet-lease-ttl": int({
    default: 86400,
    group: "Lease",
    value: "SECONDS",
    help: "How long a lease lasts in etcd without renewal.",
    check: checkRange(1, 4_000_000_000),
  }),
  "iface": list({
    group: "Interface",
    value: "NAME|IP",
    interface: true,
    help: "Interface for the traffic between hosts. May be repeated; the first match wins.",
  }),
  "iface-regex": list({
    group: "Interface",
    value: "REGEX",
    help: "Regular expression over interface names and addresses, tried after --iface. May be " +
      "repeated; the first match wins.",
    check: checkRegExp,
  }),
  "iface-can-reach": string({
    group: "Interface",
    value: "IP",
    help: "Use the interface through which the kernel routes to this address.",
    check: checkIP,
  }),
  "public-ip": string({
    group: "Interface",
    value: "IPV4",
    help: "Address at which peers reach this node, if it is not the interface's own (NAT).",
    check: checkPublicIPv4,
  }),
  "public-ipv6": string({
    group: "Interface",
    value: "IPV6",
    help: "The same for IPv6.",
    check: checkPublicIPv6,
  }),
  "bridge": string({
    group: "Containers",
    value: "NAME",
    help:
      "Create a bridge of this name for containers, with the lease's gateway address and MTU, and " +
      "enable packet forwarding if it is off.",
    check: checkInterfaceName,
  }),
  "ip-blackhole-route": bool({
    group: "Containers",
    help: "Add a blackhole route for this node's subnet, so that packets for absent containers " +
      "stop here.",
  }),
  "ip-masq": bool({
    group: "Traffic rules",
    help: "Masquerade traffic that leaves the overlay network.",
  }),
  "ip-masq-fully-random-disable": bool({
    group: "Traffic rules",
    help: "Masquerade without --random-fully.",
  }),
  "iptables-forward-rules": bool({
    default: true,
    group: "Traffic rules",
    help: "Accept traffic of the overlay network in the FORWARD chain. With iptables this also " +
      "changes the chain's policy to ACCEPT, for all of the host's traffic; see " +
      "--iptables-forward-policy.",
  }),
  "iptables-forward-policy": string({
    default: "accept",
    group: "Traffic rules",
    value: "accept|keep",
    choices: ["accept", "keep"],
    help:
      "What to do with the policy of iptables' FORWARD chain: accept changes it to ACCEPT, as " +
      "flannel does, until cleanup restores it; keep leaves it alone, so that only traffic of the " +
      "overlay network is accepted.",
    check: checkForwardPolicy,
  }),
  "iptables-resync": int({
    default: 5,
    group: "Traffic rules",
    value: "SECONDS",
    help: "Interval between checks that the traffic rules are still in place.",
    check: checkRange(1, 2_000_000),
  }),
  "healthz-ip": string({
    default: "0.0.0.0",
    group: "Health",
    value: "IP",
    help:
      "Address for the health server to listen on. Setting this flag exposes /metrics to other hosts.",
    check: checkIP,
  }),
  "healthz-port": int({
    group: "Health",
    value: "PORT",
    help: "Port for /healthz, /readyz and /metrics; 0 turns them off.",
    check: checkRange(0, 65535),
  }),
  "kube-subnet-mgr": bool({
    group: "Kubernetes",
    help: "Store leases through the Kubernetes API instead of etcd.",
    missing: KUBERNETES,
  }),
  "kube-api-url": string({
    group: "Kubernetes",
    value: "URL",
    help: "URL of the Kubernetes API server.",
    missing: KUBERNETES,
  }),
  "kube-annotation-prefix": string({
    default: "flannel.alpha.coreos.com",
    group: "Kubernetes",
    value: "PREFIX",
    help: "Prefix of the annotations on nodes.",
    missing: KUBERNETES,
  }),
  "kubeconfig-file": file({
    group: "Kubernetes",
    help: "kubeconfig file.",
    missing: KUBERNETES,
  }),
  "net-config-path": file({
    default: "/etc/kube-flannel/net-conf.json",
    group: "Kubernetes",
    help: "File with the network config.",
    missing: KUBERNETES,
  }),
  "set-node-network-unavailable": bool({
    default: true,
    group: "Kubernetes",
    help: "Clear the node's NetworkUnavailable condition once ready.",
    missing: KUBERNETES,
  }),
  "v": int({
    group: "General",
    value: "LEVEL",
    help:
      "Log level: 0 what an operator needs; 1 adds what each peer announces; 2 the changes to " +
      "the kernel's routes, neighbours and forwarding entries; 3 the traffic with etcd; 4 " +
      "durations, checks of the traffic rules and stack traces.",
    check: checkRange(0, 2 ** 31 - 1),
  }),
  "version": bool({ group: "General", help: "Print the version and exit.", noEnv: true }),
};

/** Name of a flag, without dashes. */
export type FlagName = keyof typeof FLAGS;

/** The parsed values of all flags. */
export type FlagValues = {
  [N in FlagName]: typeof FLAGS[N] extends Flag<infer T> ? FlagTypes[T] : never;
};

/** All names in the table's order. */
export const FLAG_NAMES = Object.keys(FLAGS) as FlagName[];

/** The flag of this name. Throws nothing: names are typed. */
export function flagOf(name: FlagName): Flag {
  return FLAGS[name] as Flag;
}

/** Whether `name` is in the table. */
export function isFlagName(name: string): name is FlagName {
  return Object.hasOwn(FLAGS, name);
}

/** Environment variable of a flag: `FLANNELD_ETCD_ENDPOINTS` for `etcd-endpoints`. */
export function envName(name: FlagName): string {
  return `FLANNELD_${name.toUpperCase().replaceAll("-", "_")}`;
}
