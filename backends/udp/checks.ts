/**
 * The udp backend's own checks of a node: its port and the offloads of its TUN device.
 *
 * @module
 */
import type { TunnelState } from "../../dataplane/state.ts";
import { fail, type Finding, pass, warn } from "../finding.ts";
import type { Patient } from "../types.ts";

/** Whether the device is there at all is checked with the kernel's state. */
export async function* examine(patient: Patient): AsyncGenerator<Finding> {
  const { tunnel } = patient.kernel;
  if (tunnel === undefined) return;
  yield await portFinding(tunnel, patient);
  const there = (await patient.host.interfaces()).some(({ name }) => name === tunnel.name);
  if (there) yield await offloadFinding(tunnel.name, patient);
}

async function portFinding(
  { port, name }: TunnelState,
  { isRunning, host }: Patient,
): Promise<Finding> {
  const check = `UDP port ${port}`;
  const { bound, process } = await host.udpPort(port);
  const holder = process && `${process.name} (process ${process.id})`;
  if (isRunning) {
    if (!bound) return fail(check, "the agent does not listen on it", "see the log of flanneld");
    // Without a view of other processes nobody is to be seen.
    if (process === undefined || process.tuns.includes(name)) {
      return pass(check, `held by the agent${holder ? `, ${holder}` : ""}`);
    }
  } else if (!bound) return pass(check, "free");
  return fail(
    check,
    `in use by ${holder ?? "another program"}`,
    "stop that program or set Backend.Port",
  );
}

async function offloadFinding(name: string, { host }: Patient): Promise<Finding> {
  const check = `offloads of ${name}`;
  try {
    const on = new Set(await host.features(name));
    const state = (feature: string) => on.has(feature) ? "on" : "off";
    const detail = `tx checksum ${state("tx-checksum-ip-generic")}, TSO ${
      state("tx-tcp-segmentation")
    }, USO ${state("tx-udp-segmentation")}`;
    if (on.has("tx-checksum-ip-generic") && on.has("tx-tcp-segmentation")) {
      return pass(check, detail);
    }
    return warn(
      check,
      `${detail}: TCP over it is several times slower`,
      `ethtool -K ${name} tx on tso on, or see the log of flanneld for what the kernel lacks`,
    );
  } catch (error) {
    return warn(check, error instanceof Error ? error.message : String(error));
  }
}
