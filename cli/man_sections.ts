/**
 * The parts of the manual page that do not follow from the tree of commands. Texts are troff's source
 * apart from their dashes and backslashes.
 *
 * @module
 */

/** A term and what it means. */
export type Entry = [term: string, text: string];

/** A section of terms, with an introduction. */
export interface Section {
  title: string;
  text?: string;
  entries: Entry[];
}

/** Keys of the network config, those of `Backend` left out. */
export const CONFIG: Section = {
  title: "NETWORK CONFIG",
  text: "A JSON object in etcd under PREFIX/config, /coreos.com/network/config by default. " +
    "'flanneld config set' checks and writes it, 'flanneld config validate' prints it with its " +
    "defaults. A change takes effect at the next start of an agent.",
  entries: [
    ["Network", "IPv4 address space, such as 10.1.0.0/16. Required unless EnableIPv4 is false."],
    [
      "SubnetLen",
      "Prefix length of a node's subnet. Default: 24, or that of Network plus 2 where " +
      "that is longer than 22.",
    ],
    [
      "SubnetMin, SubnetMax",
      "First and last subnet that may be leased. Default: the second and " +
      "the last one of Network.",
    ],
    ["EnableIPv4, EnableIPv6", "Address families. Default: true and false."],
    [
      "IPv6Network, IPv6SubnetLen, IPv6SubnetMin, IPv6SubnetMax",
      "The same for IPv6. Default of " +
      "IPv6SubnetLen: 64, or that of IPv6Network plus 2 where that is longer than 62.",
    ],
    ["EnableNFTables", "Use nftables instead of iptables. Default: false."],
    [
      "Backend",
      "An object: Type is one of the backends below, and its options stand beside it. " +
      "Default: vxlan. Go flannel's default is udp.",
    ],
  ],
};

/** Backends and their options. */
export const BACKENDS: Section = {
  title: "BACKENDS",
  text: "The Type of Backend in the network config. All nodes use the same one.",
  entries: [
    [
      "vxlan",
      "The kernel's VXLAN device. Options: VNI (default 1), Port (UDP, default 8472), MTU " +
      "(between the hosts, default the public interface's), GBP, Learning and DirectRouting " +
      "(plain routes to peers on the same link), all false by default.",
    ],
    ["host-gw", "Plain routes to the other nodes, all of which are on one L2 segment. No options."],
    ["udp", "A TUN device and a UDP socket of the agent itself. Options: Port (default 8285)."],
    [
      "aws-vpc",
      "A route in the VPC's route table. Options: RouteTableID (one, or an array; " +
      "default: the table of the node's VPC subnet) and MTU.",
    ],
    ["alloc", "Leases subnets but forwards no packets. No options."],
  ],
};

/** What signals do to the agent. */
export const SIGNALS: Section = {
  title: "SIGNALS",
  entries: [
    [
      "SIGTERM, SIGINT",
      "The agent exits with status 0. The lease, the devices, routes and traffic " +
      "rules stay in place, and forwarding continues; with udp, which forwards packets itself, it " +
      "pauses until the next start. 'flanneld cleanup' removes them.",
    ],
  ],
};

/** Exit status. */
export const STATUS: Section = {
  title: "EXIT STATUS",
  entries: [
    ["0", "Success."],
    ["1", "Failure at run time; for 'flanneld doctor', at least one failed check."],
    [
      "2",
      "Nothing was done because the program cannot run as started: bad flags or arguments, " +
      "missing capabilities (CAP_NET_ADMIN and CAP_NET_RAW), no interface to use, or another agent " +
      "that runs on this node (in this network namespace).",
    ],
  ],
};

/** Files. */
export const FILES: Section = {
  title: "FILES",
  entries: [
    [
      "/run/flannel/subnet.env",
      "This node's subnet and MTU, as environment variables. " +
      "--subnet-file names another one; the next two files are beside it.",
    ],
    [
      "/run/flannel/subnet.env.lease",
      "Which lease in etcd belongs to this node, so that it finds the lease after " +
      "a restart. 'flanneld cleanup --lease' removes both.",
    ],
    [
      "/run/flannel/subnet.env.forward-policy",
      "Which policies of the FORWARD chain the agent " +
      "changed to ACCEPT, for cleanup to restore. See --iptables-forward-policy.",
    ],
    [
      "/run/flannel/flanneld-NETNS.lock, /run/flannel/flanneld-NETNS.sock",
      "Keep a second agent from running in a network namespace, of which NETNS is the number, and " +
      "answer 'flanneld peers'.",
    ],
    [
      "/var/cache/flanneld",
      "The program's own files, unpacked at its first start. Where it cannot " +
      "be used: flanneld in $XDG_CACHE_HOME or ~/.cache, /tmp/flanneld-cache-UID, or " +
      "/run/flanneld-cache. FLANNELD_CACHE_DIR names another folder. Safe to remove while no " +
      "flanneld runs.",
    ],
    ["/run/docker_opts.env", "What docker-opts writes by default."],
  ],
};
