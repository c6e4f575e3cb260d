/**
 * The vxlan backend's own checks of a node: its port, its MAC and its offloads.
 *
 * @module
 */
import type { Interface, VxlanLink } from "../../dataplane/state.ts";
import type { Lease } from "../../subnet/types.ts";
import { fail, type Finding, pass, warn } from "../finding.ts";
import type { Patient } from "../types.ts";

/** Checks each family's device. Whether it is there at all is checked with the kernel's state. */
export async function* examine({ kernel, host, lease }: Patient): AsyncGenerator<Finding> {
  const interfaces = await host.interfaces();
  for (const device of kernel.links.filter((link) => link.kind === "vxlan")) {
    const own = interfaces.find(({ name, kind }) => name === device.name && kind === "vxlan");
    yield await portFinding(device, own, interfaces, host);
    if (own === undefined) continue;
    if (lease !== undefined) yield* macFindings(device, own, lease);
    yield* offloadFindings(device, host);
  }
}

async function portFinding(
  { name, port, vni }: VxlanLink,
  own: Interface | undefined,
  interfaces: readonly Interface[],
  host: Patient["host"],
): Promise<Finding> {
  const check = `UDP port ${port}`;
  const { process, bound } = await host.udpPort(port);
  if (own?.up && own.vxlan?.port === port) return pass(check, `held by ${name}`);
  if (process !== undefined) {
    const { name: holder, id } = process;
    return fail(
      check,
      `in use by ${holder} (process ${id}): ${name} cannot be brought up`,
      `stop ${holder} or set Backend.Port`,
    );
  }
  const rival = interfaces.find((other) => other.name !== name && other.vxlan?.port === port);
  if (rival !== undefined && (rival.vxlan?.vni === vni || rival.vxlan?.vni === 0)) {
    return fail(
      check,
      `in use by ${rival.name} (VXLAN): ${name} cannot be brought up`,
      "remove that device, or set Backend.Port or Backend.VNI",
    );
  }
  if (rival !== undefined) {
    return warn(
      check,
      `also used by ${rival.name} (VXLAN), which works if both have the same settings`,
    );
  }
  return bound ? warn(check, "in use by a kernel tunnel") : pass(check, "free");
}

function* macFindings({ name }: VxlanLink, own: Interface, { attrs }: Lease): Generator<Finding> {
  const data = name.startsWith("flannel-v6.") ? attrs.backendV6Data : attrs.backendData;
  const announced = typeof data === "object" && data !== null && "VtepMAC" in data
    ? data.VtepMAC
    : undefined;
  if (typeof announced !== "string" || announced.toLowerCase() === own.mac) return;
  yield fail(
    `MAC of ${name}`,
    `${own.mac}, while this node's lease announces ${announced}: the packets of peers are dropped`,
    "restart flanneld",
  );
}

async function* offloadFindings(
  { name, lower }: VxlanLink,
  host: Patient["host"],
): AsyncGenerator<Finding> {
  const [own, below] = await Promise.all([features(host, name), features(host, lower)]);
  if (own === undefined) return;
  const state = (on: boolean) => on ? "on" : "off";
  const has = {
    checksum: own.some((feature) => feature.startsWith("tx-checksum-ip")),
    gso: own.includes("tx-generic-segmentation"),
    hardware: below?.includes("tx-udp_tnl-segmentation") === true,
  };
  const detail =
    `tx checksum ${state(has.checksum)}, GSO ${state(has.gso)}; segmentation of VXLAN ` +
    `by ${lower} (tx-udp_tnl-segmentation) ${state(has.hardware)}`;
  const off = [!has.checksum && "tx on", !has.gso && "gso on"].filter((word) => word !== false);
  const check = `offloads of ${name}`;
  if (off.length === 0) yield pass(check, detail);
  else {
    yield warn(
      check,
      `${detail}: TCP over it is several times slower`,
      `ethtool -K ${name} ${off.join(" ")}, unless they were switched off on purpose`,
    );
  }
}

/** Undefined where the driver does not tell. */
async function features(host: Patient["host"], dev: string): Promise<string[] | undefined> {
  try {
    return await host.features(dev);
  } catch {
    return undefined;
  }
}
