/**
 * What the program may do, by the word it is called with: the one table that the packer writes into
 * the binary's manifest, for the launcher to fill in at each start, and by which the program gives
 * up at run time what turns out not to be needed.
 *
 * A new sub-command, or a backend that needs more than the others, is a line here.
 *
 * @module
 */
import { resolve } from "node:path";
import { STORE_FILES, STORE_FOLDERS } from "../backends/awsvpc/authorities.ts";

/** The runtime's kinds of permissions that are used at all. */
export const KINDS = ["net", "ffi", "run", "read", "write", "env", "sys"] as const;

/** One of {@linkcode KINDS}. */
export type Kind = typeof KINDS[number];

/**
 * Items of a kind, or all. An item is a text, such as a path or the name of a variable (`AWS_*`
 * stands for all that begin so), or one that the launcher fills in:
 *
 * - `flag:NAME`, `flag:NAME=DEFAULT`: what a flag, or its variable, was given
 * - `folder:NAME`, `folder:NAME=DEFAULT`: the folder that this is in
 * - `variable:NAME/REST`: a variable's value and the rest, where it is set; `~/` is the home folder
 * - `list:NAME`: each folder in a variable's list, between colons
 * - `setting:NAME`: what a setting of AWS's shared config file names, in whatever profile
 * - `program:NAME`: the path of a program
 * - `library`, `licences`: the data plane's library, the licences' texts
 */
export type Permissions = Partial<Record<Kind, "all" | readonly string[]>>;

const SUBNET_FILE = "subnet-file=/run/flannel/subnet.env";

/** Files of the store's flags. */
const ETCD_FILES = [
  "flag:etcd-cafile",
  "flag:etcd-certfile",
  "flag:etcd-keyfile",
  "flag:etcd-password-file",
];

/** What `traffic/` runs. */
const FILTERS = [
  ...["iptables", "ip6tables"].flatMap((name) => [name, `${name}-nft`, `${name}-legacy`])
    .flatMap((name) => [`program:${name}-save`, `program:${name}-restore`]),
  "program:nft",
];

/** The launcher's word to the program, the flags' variables, and where gRPC finds a proxy. */
const VARIABLES = [
  "FLANNELD_*",
  "_FLANNELD_*",
  "DENO_DIR",
  "DENO_NO_UPDATE_CHECK",
  "MALLOC_ARENA_MAX",
  "PATH",
  "NOTIFY_SOCKET",
  ...["grpc_proxy", "http_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"],
  "GRPC_SSL_CIPHER_SUITES",
];

/**
 * What the runtime itself reads of the caller's environment. The launcher passes on these variables,
 * and those that the entry may read; the runtime, its libraries and the loader know many more, which
 * would add certificate authorities, write files or load code.
 */
export const PASSED = ["HOME", "PATH", "TZ", "NO_COLOR"];

/** Before the names of the caller's other variables, for entries that hand them on or look one up. */
const CALLERS = "_FLANNELD_CALLER_*";

/** Where AWS credentials may come from: `backends/awsvpc/credentials_way.ts`. */
const AWS = {
  read: [
    "variable:HOME/.aws",
    "variable:AWS_SHARED_CREDENTIALS_FILE",
    "variable:AWS_CONFIG_FILE",
    "variable:AWS_WEB_IDENTITY_TOKEN_FILE",
    "variable:AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "variable:AWS_CA_BUNDLE",
    ...["variable:SSL_CERT_FILE", "list:SSL_CERT_DIR", ...STORE_FILES, ...STORE_FOLDERS],
    "setting:ca_bundle",
  ],
  env: [
    ...["AWS_*", "HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"],
  ],
  sys: ["osRelease", "homedir"],
};

/** The plugin by either name. */
const CNI = "cni,flannel";

/**
 * Permissions by entry: the first argument, or the name that the binary is called by; several words
 * after commas. The first also serves where the first argument is a flag.
 *
 * The network has no narrower form: etcd may be at any name, whose addresses nobody knows before.
 * The node's own sockets and lock are the library's, which these permissions do not bind.
 */
export const ENTRIES: Record<string, Permissions> = {
  agent: {
    net: "all",
    ffi: ["library"],
    run: FILTERS,
    read: [...ETCD_FILES, `folder:${SUBNET_FILE}`, ...FILTERS],
    write: [`folder:${SUBNET_FILE}`],
    env: VARIABLES,
    // Which leases are this node's, where a sub-command follows flags.
    sys: ["networkInterfaces"],
  },
  config: { net: "all", read: [...ETCD_FILES, "flag:file"], env: VARIABLES },
  leases: {
    net: "all",
    // The lease file is beside the subnet file.
    read: [...ETCD_FILES, `folder:${SUBNET_FILE}`],
    env: VARIABLES,
    sys: ["networkInterfaces"],
  },
  peers: { ffi: ["library"], env: VARIABLES },
  "docker-opts": {
    ffi: ["library"],
    read: ["flag:f=/run/flannel/subnet.env", "flag:daemon-json", "folder:daemon-json"],
    write: ["flag:d=/run/docker_opts.env", "folder:daemon-json"],
    // The options that are set already, one under a name of the user's choice.
    env: [...VARIABLES, "DOCKER_OPT_*", CALLERS],
  },
  cleanup: {
    net: "all",
    ffi: ["library"],
    run: FILTERS,
    // The file with FORWARD's former policy is beside the subnet file.
    read: [...ETCD_FILES, `folder:${SUBNET_FILE}`, ...FILTERS],
    write: [`folder:${SUBNET_FILE}`],
    env: VARIABLES,
    sys: ["networkInterfaces"],
  },
  doctor: {
    net: "all",
    ffi: ["library"],
    run: FILTERS,
    // The lease file is beside the subnet file.
    read: [...ETCD_FILES, `folder:${SUBNET_FILE}`, ...FILTERS, ...AWS.read],
    env: [...VARIABLES, ...AWS.env],
    // The containers' bridge is found by its address.
    sys: ["networkInterfaces", ...AWS.sys],
  },
  // The network config, on standard input, says which plugins it runs, and where files lie.
  [CNI]: {
    ffi: ["library"],
    run: "all",
    read: "all",
    write: "all",
    env: [...VARIABLES, "CNI_*", CALLERS],
  },
  help: { env: VARIABLES },
  completions: { env: VARIABLES },
  man: { env: VARIABLES },
  version: { env: VARIABLES },
  licences: { read: ["licences"], env: VARIABLES },
};

/** What single backends need on top of the agent's; given up once another one is chosen. */
export const BACKENDS: Record<string, Permissions> = { "aws-vpc": AWS };

/** Modules that the launcher keeps in memory are files, which are read as they are imported. */
const IN_MEMORY = import.meta.url.startsWith("file:///proc/self/fd/");

/** Gives up all kinds that the entry has no part in. */
export function narrowToEntry(entry: string): void {
  // What is not a command needs as little as help does.
  const permissions = ENTRIES[entry === "cni" ? CNI : entry] ?? ENTRIES.help;
  for (const kind of KINDS) {
    if (kind === "read" && IN_MEMORY) continue;
    if (permissions[kind] === undefined) Deno.permissions.revokeSync({ name: kind });
  }
}

/**
 * Gives up what only other backends than this one need, and to open libraries: ours is open.
 *
 * @param files those of flags, which the agent goes on reading whatever else names them
 */
export function narrowToBackend(backend: string, files: readonly string[]): void {
  Deno.permissions.revokeSync({ name: "ffi" });
  const kept = [ENTRIES.agent, BACKENDS[backend] ?? {}];
  const keptFiles = new Set(files.map((path) => resolve(path)));
  for (const [other, permissions] of Object.entries(BACKENDS)) {
    if (other === backend) continue;
    for (const kind of KINDS) {
      const items = permissions[kind] ?? [];
      for (const item of items === "all" ? [] : items) {
        if (kept.some((permissions) => permissions[kind]?.includes(item))) continue;
        const text = plain(item);
        if (text === undefined || (kind === "read" && keptFiles.has(resolve(text)))) continue;
        revoke(kind, text);
      }
    }
  }
}

/** How the runtime's descriptors name an item. */
const KEYS: Partial<Record<Kind, string>> = {
  run: "command",
  read: "path",
  write: "path",
  env: "variable",
  sys: "kind",
};

function revoke(kind: Kind, item: string): void {
  const key = KEYS[kind];
  if (key === undefined) return;
  Deno.permissions.revokeSync({ name: kind, [key]: item } as Deno.PermissionDescriptor);
}

/** An item that needs no launcher to fill it in. What lists and settings name is public: it stays. */
function plain(item: string): string | undefined {
  const [, source, text] =
    /^(flag|folder|program|variable|list|setting|library|licences):?(.*)$/.exec(item) ??
      [];
  if (source === undefined) return item;
  if (source !== "variable") return undefined;
  const [name] = text.split("/", 1);
  const value = Deno.env.get(name)?.replace(/^~(?=\/)/, () => Deno.env.get("HOME") ?? "~");
  return value && value + text.slice(name.length);
}
