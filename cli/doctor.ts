/**
 * `flanneld doctor`: what a backend needs of its surroundings, and what to mend.
 *
 * @module
 */
import { UsageError } from "../agent/errors.ts";
import { choosePublicInterface } from "../agent/interface.ts";
import { mtuOf, tableIdsOf } from "../backends/awsvpc.ts";
import type { NodeAddress, Patient } from "../backends/awsvpc/doctor.ts";
import { broken, type Finding, note } from "../backends/finding.ts";
import { DataPlane } from "../dataplane/mod.ts";
import { ConfigError, type NetworkConfig, parseNetworkConfig } from "../subnet/config.ts";
import type { Lease } from "../subnet/types.ts";
import { interfaceOptions } from "./agent_options.ts";
import type { Settings } from "./parse.ts";
import { libraryPath } from "./paths.ts";
import { Store } from "./store.ts";

/** Leases that cannot be read and are named. */
const MOST_REFUSED = 3;

/** Runs `doctor aws-vpc`. Returns the exit status: 1 where something is broken. */
export async function doctorAwsVpc(settings: Settings): Promise<number> {
  const counts = { ok: 0, note: 0, broken: 0 };
  for await (const finding of examineAwsVpc(settings)) {
    counts[finding.verdict]++;
    console.log(text(finding));
  }
  console.log(`${counts.ok} ok, ${counts.note} to note, ${counts.broken} broken`);
  return counts.broken > 0 ? 1 : 0;
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
  using store = new Store(settings);
  const refused: string[] = [];
  try {
    const config = await store.config();
    found.leases = await store.leasesWithoutEnd((key, reason) => refused.push(`${key}: ${reason}`));
    if (config === undefined) {
      const fix = `flanneld config set '{"Network":"10.1.0.0/16","Backend":{"Type":"aws-vpc"}}'`;
      yield broken("network config", `etcd has none at ${store.configKey}`, fix);
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
    yield broken(
      isConfig ? "network config" : "etcd",
      error.message,
      isConfig ? "flanneld config set" : undefined,
    );
  }
  if (refused.length > 0) {
    const more = refused.length > MOST_REFUSED ? `; and ${refused.length - MOST_REFUSED} more` : "";
    const detail = `not readable: ${refused.slice(0, MOST_REFUSED).join("; ")}${more}`;
    yield note("leases", detail, "flanneld leases");
  }
  return found;
}

/** The address that the agent takes first, then the others that peers may reach. */
async function* examineInterfaces(
  settings: Settings,
  network: NetworkConfig | undefined,
): AsyncGenerator<Finding, Pick<Patient, "addresses" | "isChosen">> {
  using dataplane = DataPlane.open(libraryPath());
  const interfaces = (await dataplane.interfaces()).filter(({ loopback }) => !loopback);
  const all = interfaces.flatMap(({ name: interfaceName, mtu, addresses }): NodeAddress[] =>
    addresses.filter(({ scope }) => scope === "global").map(({ ip }) => ({
      ip,
      interfaceName,
      mtu,
    }))
  );
  if (all.length === 0) return { addresses: all, isChosen: false };
  const families = { ipv4: network?.ipv4 !== null, ipv6: Boolean(network?.ipv6) };
  try {
    const chosen = await choosePublicInterface(
      interfaceOptions(settings),
      families,
      dataplane,
      () => {},
    );
    const { name: interfaceName, mtu, ip, ipv6 } = chosen;
    const first = { ip: (ip ?? ipv6)!, interfaceName, mtu };
    return { addresses: [first, ...all.filter((each) => each.ip !== first.ip)], isChosen: true };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    yield broken("interface", error.message);
    return { addresses: all, isChosen: false };
  }
}

function text({ verdict, check, detail, fix }: Finding): string {
  const line = `${verdict.padEnd(6)}  ${check}: ${detail}`;
  return fix === undefined ? line : `${line}\n        fix: ${fix}`;
}
