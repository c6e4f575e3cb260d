/**
 * `flanneld doctor`: examines this node, or what aws-vpc needs of AWS; and what to mend.
 *
 * @module
 */
import { openStore } from "../subnet/registry.ts";
import { storeOptions } from "./agent_options.ts";
import { UsageError } from "../agent/errors.ts";
import { type Choice, choose } from "../agent/interface.ts";
import { mtuOf, tableIdsOf } from "../backends/awsvpc/mod.ts";
import type { Patient } from "../backends/awsvpc/doctor.ts";
import { fail, type Finding, warn } from "../backends/finding.ts";
import { DataPlane } from "../dataplane/mod.ts";
import type { Entry } from "../doctor/check.ts";
import { print } from "../doctor/report.ts";
import { ConfigError, type NetworkConfig, parseNetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";
import { agentOptions, interfaceOptions } from "./agent_options.ts";
import type { Settings } from "./parse.ts";
import { libraryPath } from "./paths.ts";

/** Leases that cannot be read and are named. */
const MOST_REFUSED = 3;

/** Runs `doctor`. Returns the exit status: 1 where something failed. */
export async function doctor(settings: Settings, json: boolean): Promise<number> {
  const { examineNode } = await import("../doctor/mod.ts");
  return await print(examineNode(agentOptions(settings)), json);
}

/** Runs `doctor aws-vpc`. Returns the exit status: 1 where something failed. */
export async function doctorAwsVpc(settings: Settings, json: boolean): Promise<number> {
  return await print(entries(examineAwsVpc(settings)), json);
}

async function* entries(findings: AsyncIterable<Finding>): AsyncGenerator<Entry> {
  for await (const finding of findings) yield { ...finding, area: "aws-vpc" };
}

async function* examineAwsVpc(settings: Settings): AsyncGenerator<Finding> {
  const { examine } = await import("../backends/awsvpc/doctor.ts");
  const store = yield* examineStore(settings);
  const node = yield* examineInterfaces(settings, store.network);
  yield* examine({ ...store, ...node });
}

/** What the store has. Whatever is missing is a finding, and the rest goes on without. */
async function* examineStore(
  settings: Settings,
): AsyncGenerator<Finding, Pick<Patient, "network" | "tableIds" | "mtu" | "leases">> {
  const found = {
    network: undefined as NetworkConfig | undefined,
    tableIds: [] as string[],
    mtu: Infinity,
    leases: [] as Lease[],
  };
  using store = await openStore(storeOptions(settings));
  const refused: string[] = [];
  try {
    const config = await store.config();
    found.leases = await store.leasesWithoutEnd((key, reason) => refused.push(`${key}: ${reason}`));
    if (config === undefined) {
      const fix = `flanneld config set '{"Network":"10.1.0.0/16","Backend":{"Type":"aws-vpc"}}'`;
      yield fail("network config", `not found in etcd at ${store.configKey}`, fix);
    } else {
      found.network = parseNetworkConfig(config);
      if (found.network.backend.type === "aws-vpc") {
        found.mtu = mtuOf(found.network);
        found.tableIds = tableIdsOf(found.network);
      }
    }
  } catch (error) {
    if (!(error instanceof Error) || error instanceof UsageError) throw error;
    const isConfig = error instanceof ConfigError;
    yield fail(
      isConfig ? "network config" : "etcd",
      error.message,
      isConfig ? "flanneld config set" : undefined,
    );
  }
  if (refused.length > 0) {
    const more = refused.length > MOST_REFUSED ? `; and ${refused.length - MOST_REFUSED} more` : "";
    const detail = `not readable: ${refused.slice(0, MOST_REFUSED).join("; ")}${more}`;
    yield warn("leases", detail, "flanneld leases");
  }
  return found;
}

/** The address that the agent takes first, then the others that peers may reach. */
async function* examineInterfaces(
  settings: Settings,
  network: NetworkConfig | undefined,
): AsyncGenerator<Finding, Pick<Patient, "addresses" | "isChosen">> {
  const { nodeAddresses } = await import("../backends/awsvpc/doctor.ts");
  using dataplane = DataPlane.open(libraryPath());
  const interfaces = await dataplane.interfaces();
  const all = nodeAddresses(interfaces);
  if (all.length === 0) return { addresses: all, isChosen: false };
  const families = { ipv4: network?.ipv4 !== null, ipv6: Boolean(network?.ipv6) };
  let choice: Choice;
  try {
    choice = await choose(interfaceOptions(settings), families, dataplane, () => {});
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    yield fail("interface", error.message);
    return { addresses: all, isChosen: false };
  }
  return { addresses: nodeAddresses(interfaces, choice.view), isChosen: true };
}
