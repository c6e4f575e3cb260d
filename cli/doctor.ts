/**
 * `flanneld doctor`: what a backend needs of its surroundings, and what to mend.
 *
 * @module
 */
import { tableIdsOf } from "../backends/awsvpc.ts";
import type { Finding } from "../backends/awsvpc/doctor.ts";
import { DataPlane } from "../dataplane/mod.ts";
import { parseNetworkConfig } from "../subnet/config.ts";
import type { Settings } from "./parse.ts";
import { libraryPath } from "./paths.ts";
import { Store } from "./store.ts";

/**
 * Runs `doctor aws-vpc`. Returns the exit status: 1 where something is broken.
 *
 * @throws Error of one line where the store has no valid network config
 */
export async function doctorAwsVpc(settings: Settings): Promise<number> {
  const { examine } = await import("../backends/awsvpc/doctor.ts");
  const network = await storedNetwork(settings);
  const patient = { network, tableIds: tableIdsOf(network), addresses: await ownAddresses() };
  const counts = { ok: 0, note: 0, broken: 0 };
  for await (const finding of examine(patient)) {
    counts[finding.verdict]++;
    console.log(text(finding));
  }
  console.log(`${counts.ok} ok, ${counts.note} to note, ${counts.broken} broken`);
  return counts.broken > 0 ? 1 : 0;
}

async function storedNetwork(settings: Settings) {
  using store = new Store(settings);
  const config = await store.config();
  if (config !== undefined) return parseNetworkConfig(config);
  throw new Error(
    `etcd has no network config at ${store.configKey}: write one by flanneld config set`,
  );
}

/** Addresses of this node's interfaces that peers may reach, with their MTU. */
async function ownAddresses(): Promise<Map<string, number>> {
  using dataplane = DataPlane.open(libraryPath());
  const interfaces = (await dataplane.interfaces()).filter(({ loopback }) => !loopback);
  return new Map(
    interfaces.flatMap(({ mtu, addresses }) =>
      addresses.filter(({ scope }) => scope === "global").map(({ ip }) => [ip, mtu] as const)
    ),
  );
}

function text({ verdict, check, detail, fix }: Finding): string {
  const line = `${verdict.padEnd(6)}  ${check}: ${detail}`;
  return fix === undefined ? line : `${line}\n        fix: ${fix}`;
}
