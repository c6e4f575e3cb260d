/**
 * The keys that flannel's network config has, to tell a misspelled one from one that another backend
 * or a later flannel knows.
 *
 * @module
 */
import { quote } from "../base/json.ts";
import { nearest } from "../base/nearest.ts";

/** Of the config itself. */
const NETWORK_KEYS = [
  ...["EnableIPv4", "EnableIPv6", "EnableNFTables", "Backend"],
  ...["Network", "SubnetLen", "SubnetMin", "SubnetMax"],
  ...["IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"],
];

/** Of `Backend`, whatever its type: flannel passes over the options of other backends. */
const BACKEND_KEYS = [
  "Type",
  // vxlan; udp and ipip have some of these.
  ...["VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting"],
  "RouteTableID",
  ...["PSK", "ListenPort", "ListenPortV6", "Mode", "PersistentKeepaliveInterval"],
  ...["PreStartupCommand", "PostStartupCommand", "SubnetAddCommand", "SubnetRemoveCommand"],
  "ShutdownCommand",
  ...["UDPEncap", "ESPProposal"],
  ...["AccessKeyID", "AccessKeySecret"],
];

/** Options of nodes with Windows. They share the config, but nobody means one of these here. */
const WINDOWS_KEYS = ["Name", "MacPrefix", "DNSServerList"];

const lowerCase = (keys: string[]) => new Set(keys.map((key) => key.toLowerCase()));
const NETWORK = lowerCase(NETWORK_KEYS);
const BACKEND = lowerCase(BACKEND_KEYS);
const WINDOWS = lowerCase(WINDOWS_KEYS);

/** A key that nothing in flannel reads. */
export interface UnknownKey {
  key: string;
  /** It stands in `Backend`. */
  inBackend: boolean;
  /** What was probably meant: `did you mean Port?`; empty where no key resembles it. */
  advice: string;
}

/** Whether the config, or its `Backend`, has this key, in letters of either case. */
export function isKnownKey(key: string, inBackend: boolean): boolean {
  const name = key.toLowerCase();
  return inBackend ? BACKEND.has(name) || WINDOWS.has(name) : NETWORK.has(name);
}

/** What to say of a key that is not known where it stands. */
export function unknownKey(key: string, inBackend: boolean): UnknownKey {
  return { key, inBackend, advice: advice(key, inBackend) };
}

function advice(key: string, inBackend: boolean): string {
  const name = key.toLowerCase();
  if (inBackend ? NETWORK.has(name) : BACKEND.has(name)) {
    return `it belongs ${inBackend ? "outside" : "in"} Backend`;
  }
  const [here, elsewhere] = inBackend ? [BACKEND_KEYS, NETWORK_KEYS] : [NETWORK_KEYS, BACKEND_KEYS];
  const meant = nearest(key, here);
  if (meant !== undefined) return `did you mean ${meant}?`;
  const misplaced = nearest(key, elsewhere);
  if (misplaced === undefined) return "";
  return `did you mean ${misplaced}, ${inBackend ? "outside" : "in"} Backend?`;
}

/** An unknown key as a message names it, with the advice. */
export function unknownKeyText({ key, inBackend, advice }: UnknownKey): string {
  const place = inBackend ? " in Backend" : "";
  return `${quote(key)}${place} is not a known key${advice && `; ${advice}`}`;
}
