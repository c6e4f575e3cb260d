/**
 * A container's attachment to a bridge of this host, as a CNI plugin makes it: one call each, on
 * this thread; nothing is watched.
 *
 * @module
 */
import { encode, take } from "./answer.ts";
import { openLibrary } from "./symbols.ts";

/** The bridge that containers are attached to. */
export interface AttachmentBridge {
  name: string;
  /** Set where the bridge is made, not where it is there. */
  mtu: number;
  /** Its own addresses with prefix length, the containers' gateways; none where it is no gateway. */
  gateways: string[];
  /** Remove other addresses that are in the way of the gateways. */
  forceAddress: boolean;
  promiscuous: boolean;
}

/** A route in the container. */
export interface AttachmentRoute {
  dst: string;
  via?: string;
  metric?: number;
}

/** An attachment as it should be. */
export interface Attachment {
  bridge: AttachmentBridge;
  /** Path of the container's network namespace. */
  netns: string;
  /** Name of the container's end of the veth pair. */
  ifname: string;
  /** Name of the host's end. */
  host: string;
  mtu: number;
  /** The container's; the kernel's choice where absent. */
  mac?: string;
  /** Frames may leave by the port that they came from. */
  hairpin: boolean;
  /** With prefix length. */
  addresses: string[];
  routes: AttachmentRoute[];
}

/** An attachment to be removed. */
export interface Detachment {
  host: string;
  /** The container's end, for an attachment whose host end has another name. */
  netns?: string;
  ifname: string;
}

/** A device as it came to be. */
export interface AttachedDevice {
  name: string;
  mac: string;
  mtu: number;
}

/** The devices of an attachment. */
export interface Attached {
  bridge: AttachedDevice;
  host: AttachedDevice;
  pod: AttachedDevice;
}

type AttachmentCall = { add: Attachment } | { check: Attachment } | { remove: Detachment };

/**
 * Makes the bridge where it is missing, the veth pair, its addresses and routes.
 *
 * @throws Error of one line; nothing but the bridge is left of the attempt
 */
export function attach(libraryPath: string, attachment: Attachment): Attached {
  return call(libraryPath, { add: attachment });
}

/**
 * What is wrong with an attachment, a line each.
 *
 * @throws Error of one line where it cannot be looked at
 */
export function checkAttachment(libraryPath: string, attachment: Attachment): string[] {
  return call(libraryPath, { check: attachment });
}

/**
 * Removes an attachment; answers whether it was there.
 *
 * @throws Error of one line where it is there and stays
 */
export function detach(libraryPath: string, detachment: Detachment): boolean {
  return call(libraryPath, { remove: detachment });
}

function call<T>(libraryPath: string, request: AttachmentCall): T {
  const library = openLibrary(libraryPath);
  try {
    const json = encode(JSON.stringify(request));
    return take<T>(library, library.symbols.dp_attachment(json, BigInt(json.length)));
  } finally {
    library.close();
  }
}
