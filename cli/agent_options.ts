/**
 * From flag values to what the agent is told.
 *
 * @module
 */
import { UsageError } from "../agent/errors.ts";
import type { AgentOptions, InterfaceOptions } from "../agent/options.ts";
import type { StoreOptions } from "../subnet/registry.ts";
import { parseEndpoint, splitEndpoints } from "../subnet/etcd/endpoint.ts";
import { readTextFile } from "./files.ts";
import type { FlagName } from "./flags.ts";
import { compileGoRegExp } from "./go_regexp.ts";
import type { Settings } from "./parse.ts";
import { libraryPath } from "./paths.ts";
import { narrowToBackend } from "./permissions.ts";

/** Flags that make {@linkcode StoreOptions}; every sub-command that talks to the store has them. */
export const ETCD_FLAGS = [
  "etcd-endpoints",
  "etcd-prefix",
  "etcd-cafile",
  "etcd-certfile",
  "etcd-keyfile",
  "etcd-username",
  "etcd-password",
  "etcd-password-file",
] as const satisfies FlagName[];

/** Those of {@linkcode ETCD_FLAGS} that name files which are read again for each connection. */
const ETCD_FILES = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"] as const;

/**
 * Where the store is.
 *
 * @throws {UsageError} for one half of a pair: certificate and key, user name and password
 */
export function storeOptions(settings: Settings): StoreOptions {
  const { values } = settings;
  requirePair(settings, "etcd-certfile", "etcd-keyfile");
  const secret = values["etcd-password-file"] ? "etcd-password-file" : "etcd-password";
  requirePair(settings, "etcd-username", secret);
  if (values["etcd-endpoints"] === "") {
    throw new UsageError(`${settings.origin("etcd-endpoints")} must not be empty`);
  }
  if (values["etcd-prefix"] === "") {
    throw new UsageError(`${settings.origin("etcd-prefix")} must not be empty`);
  }
  const tls = ETCD_FILES.some((flag) => values[flag] !== "");
  return {
    kind: "etcd",
    endpoints: splitEndpoints(values["etcd-endpoints"]).map((entry) => parseEndpoint(entry, tls)),
    prefix: values["etcd-prefix"].replace(/\/{2,}/g, "/").replace(/\/$/, ""),
    cafile: values["etcd-cafile"] || undefined,
    certfile: values["etcd-certfile"] || undefined,
    keyfile: values["etcd-keyfile"] || undefined,
    username: values["etcd-username"] || undefined,
    password: password(settings),
  };
}

/** @throws {UsageError} for two passwords, or none in the file */
function password({ values, origin }: Settings): string | undefined {
  const path = values["etcd-password-file"];
  if (!path) return values["etcd-password"] || undefined;
  if (values["etcd-password"]) {
    throw new UsageError(
      `${origin("etcd-password")} and ${origin("etcd-password-file")}: one only`,
    );
  }
  const text = readTextFile(path).replace(/\r?\n$/, "");
  if (text === "") throw new UsageError(`${origin("etcd-password-file")}: ${path} is empty`);
  return text;
}

function requirePair(
  { values, origin }: Settings,
  first: (typeof ETCD_FLAGS)[number],
  second: (typeof ETCD_FLAGS)[number],
): void {
  for (const [one, other] of [[first, second], [second, first]] as const) {
    if (values[one] && !values[other]) throw new UsageError(`${origin(one)} needs --${other}`);
  }
}

/** Flags that make {@linkcode InterfaceOptions}. */
export const INTERFACE_FLAGS = [
  "iface",
  "iface-regex",
  "iface-can-reach",
  "public-ip",
  "public-ipv6",
] as const satisfies FlagName[];

/** Which interface carries the traffic between hosts. */
export function interfaceOptions({ values }: Settings): InterfaceOptions {
  return {
    // Units pass --iface=$VARIABLE, which is empty where the variable is not set: as good as absent.
    iface: values["iface"].filter((name) => name !== ""),
    ifaceRegex: values["iface-regex"].filter((text) => text !== "").map(compileGoRegExp),
    ifaceCanReach: values["iface-can-reach"] || undefined,
    publicIP: values["public-ip"] || undefined,
    publicIPv6: values["public-ipv6"] || undefined,
  };
}

/**
 * Everything the agent is told.
 *
 * @throws {UsageError} for values that contradict each other
 */
export function agentOptions(settings: Settings): AgentOptions {
  const { values, origin } = settings;
  if (values["subnet-file"] === "") {
    throw new UsageError(`${origin("subnet-file")} must not be empty`);
  }
  return {
    store: storeOptions(settings),
    interface: interfaceOptions(settings),
    traffic: {
      ipMasq: values["ip-masq"],
      randomFully: !values["ip-masq-fully-random-disable"],
      forwardRules: values["iptables-forward-rules"],
      forwardPolicy: values["iptables-forward-policy"] === "keep" ? "keep" : "accept",
      resyncSeconds: values["iptables-resync"],
    },
    subnetFile: values["subnet-file"],
    renewMarginMinutes: values["subnet-lease-renew-margin"],
    leaseSeconds: values["subnet-lease-ttl"],
    bridge: values["bridge"] || undefined,
    blackholeRoute: values["ip-blackhole-route"],
    healthz: {
      // An empty address means all of them, to flannel too.
      ip: values["healthz-ip"] || "0.0.0.0",
      port: values["healthz-port"],
      metricsForAll: origin("healthz-ip") !== undefined,
    },
    libraryPath: libraryPath(),
    backendKnown: (backend) =>
      narrowToBackend(backend, ETCD_FILES.flatMap((flag) => values[flag] || [])),
  };
}
