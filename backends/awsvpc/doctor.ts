/**
 * Examines what the aws-vpc backend needs of AWS and of this node, without changing anything, and
 * says what to mend.
 *
 * @module
 */
import type { NetworkConfig } from "../../subnet/config.ts";
import { Ec2Calls, sdkClient } from "./client.ts";
import { advice, Ec2Fault } from "./faults.ts";
import { refuseMetadataV1, whereWeAre } from "./metadata.ts";
import { tryPermissions } from "./permissions.ts";
import { findEni } from "./place.ts";
import { overlapsVpc } from "./plan.ts";
import { admission, readRules } from "./security_groups.ts";
import { lookAtVpc } from "./tables.ts";
import type { Eni, RouteTable } from "./types.ts";

/** Bytes of the largest packet between instances of one VPC (EC2 User Guide, "MTU"). */
const VPC_MTU = 9001;
/** Routes that a table takes without a raised quota (Amazon VPC quotas). */
const DEFAULT_QUOTA = 50;

/** One thing that was looked at. */
export interface Finding {
  /** `broken`: packets will not pass, or the agent fails; `note`: worth knowing. */
  verdict: "ok" | "note" | "broken";
  check: string;
  detail: string;
  /** What to do about it. */
  fix?: string;
}

/** What is examined. */
export interface Patient {
  network: NetworkConfig;
  /** Route tables that the config names. */
  tableIds: readonly string[];
  /** Addresses of this node's interfaces, with the interface's MTU in bytes. */
  addresses: ReadonlyMap<string, number>;
}

type Ec2Client = ReturnType<typeof sdkClient>;

/** Yields what it finds as it goes; ends early where nothing more can be found out. */
export async function* examine(patient: Patient): AsyncGenerator<Finding> {
  refuseMetadataV1();
  const { type } = patient.network.backend;
  if (type !== "aws-vpc") {
    const detail = `the network config names the backend ${type}`;
    yield { verdict: "note", check: "backend", detail };
  }
  try {
    const { region, instanceId } = await whereWeAre();
    yield ok("instance", `${instanceId ?? "no metadata service"}, in ${region}`);
    const client = sdkClient(region);
    try {
      yield* examineInstance(client, patient, instanceId);
    } finally {
      client.destroy();
    }
  } catch (error) {
    if (!(error instanceof Ec2Fault)) throw error;
    yield { verdict: "broken", check: error.action, detail: error.message, fix: fixOf(error) };
  }
}

async function* examineInstance(
  client: Ec2Client,
  patient: Patient,
  instanceId: string | undefined,
): AsyncGenerator<Finding> {
  const ec2 = new Ec2Calls(client);
  const { eni, siblings, ip } = await ownEni(ec2, instanceId, patient.addresses);
  yield ok("network interface", `${eni.id} has ${ip}`);
  const { ours: tables } = await lookAtVpc(ec2, eni, patient.tableIds);
  const networks = networksOf(patient);
  const subject = {
    ...{ instanceId, eniId: eni.id, siblings, tableId: tables[0].id },
    destination: networks[0].min,
  };
  const forbidden = new Set<string>();
  for (const { action, without, fault } of await tryPermissions(client, subject)) {
    if (fault === undefined) {
      yield ok(action, "allowed");
      continue;
    }
    forbidden.add(action);
    const verdict = without === "only doctor" || action.startsWith("Modify") ? "note" : "broken";
    yield { verdict, check: action, detail: fault.message, fix: fixOf(fault) };
  }
  yield sourceDestCheck(eni, [...forbidden].some((action) => action.startsWith("Modify")));
  for (const table of tables) yield* examineTable(table, patient, eni);
  if (!forbidden.has("DescribeSecurityGroups")) yield* examineGroups(client, eni, patient);
  yield mtu(patient.addresses.get(ip)!);
}

/** The network interface of this instance that has an address of the node. */
async function ownEni(
  ec2: Ec2Calls,
  instanceId: string | undefined,
  addresses: ReadonlyMap<string, number>,
): Promise<{ eni: Eni; siblings: number; ip: string }> {
  let last: unknown;
  for (const ip of addresses.keys()) {
    try {
      return { ...await findEni(ec2, { instanceId, ip }), ip };
    } catch (error) {
      if (!(error instanceof Ec2Fault) || error.code !== "NoInterface") throw error;
      last = error;
    }
  }
  throw last;
}

function sourceDestCheck({ id, sourceDestCheck }: Eni, forbidden: boolean): Finding {
  const check = "source/dest check";
  if (!sourceDestCheck) return ok(check, `off on ${id}`);
  if (!forbidden) return { verdict: "note", check, detail: `on, the agent switches it off` };
  return {
    verdict: "broken",
    check,
    detail: `on, so that ${id} drops packets of containers, and the agent may not switch it off`,
    fix: `aws ec2 modify-network-interface-attribute --network-interface-id ${id} ` +
      "--no-source-dest-check",
  };
}

function* examineTable(table: RouteTable, patient: Patient, eni: Eni): Generator<Finding> {
  const check = `route table ${table.id}`;
  const networks = networksOf(patient);
  const overlap = overlapsVpc(table, networks);
  if (overlap) {
    yield {
      verdict: "broken",
      check,
      detail: `the network ${overlap.network} overlaps the VPC's own ${overlap.local}`,
      fix: "choose a Network outside of the VPC: flanneld config set",
    };
  }
  const routes = table.routes.filter(({ target }) => target !== "local");
  const overlay = routes.filter(({ destination }) =>
    networks.some(({ network }) => network.contains(destination))
  );
  const ours = overlay.filter(({ target }) => target === eni.id).map(({ destination }) =>
    `${destination}`
  );
  const holes = overlay.filter(({ blackHole }) => blackHole).map(({ destination }) =>
    `${destination}`
  );
  yield ok(check, ours.length > 0 ? `leads ${ours.join(", ")} here` : "leads no subnet here yet");
  if (holes.length > 0) {
    const detail = `${holes.length} black holes, which agents remove: ${holes.join(", ")}`;
    yield { verdict: "note", check, detail };
  }
  yield room(check, routes.length);
}

function room(check: string, routes: number): Finding {
  const free = DEFAULT_QUOTA - routes;
  const detail = free > 0
    ? `${routes} routes, room for ${free} more nodes by the default quota of ${DEFAULT_QUOTA}`
    : `${routes} routes, beyond the default quota of ${DEFAULT_QUOTA}`;
  if (free > 5) return ok(check, detail);
  const fix = 'make sure of the quota "Routes per route table" of Amazon VPC in Service Quotas';
  return { verdict: "note", check, detail, fix };
}

async function* examineGroups(
  client: Ec2Client,
  eni: Eni,
  patient: Patient,
): AsyncGenerator<Finding> {
  const check = `security groups ${eni.securityGroups.join(", ")}`;
  const { inbound, outbound } = await readRules(client, eni.securityGroups);
  for (const { network } of networksOf(patient)) {
    for (
      const [from, rules, command] of [
        ["from", inbound, "authorize-security-group-ingress"],
        ["to", outbound, "authorize-security-group-egress"],
      ] as const
    ) {
      const admitted = admission(rules, network);
      if (admitted === "all") {
        yield ok(check, `admit all traffic ${from} ${network}`);
        continue;
      }
      const range = network.family === 6
        ? `Ipv6Ranges=[{CidrIpv6=${network}}]`
        : `IpRanges=[{CidrIp=${network}}]`;
      yield {
        verdict: admitted === "none" ? "broken" : "note",
        check,
        detail: admitted === "none"
          ? `admit nothing ${from} ${network}`
          : `admit only certain protocols ${from} ${network}`,
        fix: `aws ec2 ${command} --group-id ${eni.securityGroups[0]} ` +
          `--ip-permissions 'IpProtocol=-1,${range}'`,
      };
    }
  }
}

function mtu(bytes: number): Finding {
  const check = "MTU";
  if (bytes === VPC_MTU) return ok(check, `${bytes}`);
  const detail = `${bytes}; instances of one VPC can send ${VPC_MTU}`;
  if (bytes < VPC_MTU) return { verdict: "note", check, detail };
  return { verdict: "broken", check, detail, fix: `set the interface's MTU to ${VPC_MTU}` };
}

function networksOf({ network }: Patient) {
  return [network.ipv4, network.ipv6].filter((half) => half !== null);
}

function fixOf(fault: Ec2Fault): string | undefined {
  if (fault.kind !== "unauthorized") return undefined;
  return advice(fault).slice(fault.message.length).replace(/^; /, "");
}

function ok(check: string, detail: string): Finding {
  return { verdict: "ok", check, detail };
}
