/**
 * Examines what the aws-vpc backend needs of AWS and of this node, without changing anything, and
 * says what to mend.
 *
 * @module
 */
import type { Interface } from "../../dataplane/state.ts";
import { Cidr } from "../../base/cidr.ts";
import type { NetworkConfig } from "../../subnet/config.ts";
import type { Lease } from "../../subnet/types.ts";
import { fail, type Finding, pass, warn } from "../finding.ts";
import { Ec2Calls, sdkClient } from "./client.ts";
import { credentialsSource } from "./credentials.ts";
import { examineTables } from "./doctor_tables.ts";
import { Ec2Fault, faultOf } from "./faults.ts";
import { refuseMetadataV1, whereWeAre } from "./metadata.ts";
import {
  describePermissions,
  groupsPermission,
  routePermissions,
  sourceDestCheckPermission,
} from "./permissions.ts";
import { findEni } from "./place.ts";
import { examineGroups } from "./security_groups.ts";
import { switchOffCommand } from "./source_dest_check.ts";
import type { Eni } from "./types.ts";

/** Bytes of the largest packet between instances of one VPC (EC2 User Guide, "MTU"). */
const VPC_MTU = 9001;

/** Milliseconds before a throttled call is made again: at first, doubled up to the last. */
const FIRST_PAUSE = 500;
const LAST_PAUSE = 4_000;

/** Where nothing is known of the network: addresses for documentation (RFC 5737). */
const EXAMPLE_SUBNET = Cidr.parse("192.0.2.0/24");

/** An address of this node, and the interface that has it. */
export interface NodeAddress {
  ip: string;
  interfaceName: string;
  /** Bytes. */
  mtu: number;
}

/** What is examined. */
export interface Patient {
  /** Undefined where the store gives none. */
  network: NetworkConfig | undefined;
  /** Route tables that the config names. */
  tableIds: readonly string[];
  /** Bytes to which the config lowers containers' MTU; Infinity where it does not. */
  mtu: number;
  leases: readonly Lease[];
  /** Addresses of this node that peers may reach. */
  addresses: readonly NodeAddress[];
  /** Whether the first of them is the one that the agent takes; else it takes none. */
  isChosen: boolean;
}

/**
 * The node's addresses that peers may reach: that of the chosen interface first, where there is one.
 */
export function nodeAddresses(
  interfaces: readonly Interface[],
  chosen?: { name: string; mtu: number; ip: string | null; ipv6: string | null },
): NodeAddress[] {
  const all = interfaces.filter(({ loopback }) => !loopback)
    .flatMap(({ name: interfaceName, mtu, addresses }): NodeAddress[] =>
      addresses.filter(({ scope }) => scope === "global")
        .map(({ ip }) => ({ ip, interfaceName, mtu }))
    );
  const ip = chosen?.ip ?? chosen?.ipv6;
  if (!chosen || !ip) return all;
  const first = { ip, interfaceName: chosen.name, mtu: chosen.mtu };
  return [first, ...all.filter((each) => each.ip !== ip)];
}

/** What the calls are made with. */
interface Calls {
  client: ReturnType<typeof sdkClient>;
  ec2: Ec2Calls;
}

/** The node's network interface. */
interface Place {
  eni: Eni;
  /** Network interfaces that the instance has besides. */
  siblings: number;
  address: NodeAddress;
}

/** Yields what it finds as it goes; ends early where nothing more can be found out. */
export async function* examine(patient: Patient): AsyncGenerator<Finding> {
  refuseMetadataV1();
  const type = patient.network?.backend.type;
  if (type !== undefined && type !== "aws-vpc") {
    const fix = "flanneld config set, with a Backend of the Type aws-vpc";
    yield warn("backend", `the network config names the backend ${type}`, fix);
  }
  try {
    const { region, instanceId } = await whereWeAre();
    yield instanceId === undefined ? withoutMetadata(region) : pass(
      "instance",
      `${instanceId}, in ${region}`,
    );
    yield pass("credentials", await credentialsSource());
    const client = sdkClient(region);
    retryThrottled(client);
    try {
      yield* examineInstance({ client, ec2: new Ec2Calls(client) }, patient, instanceId);
    } finally {
      client.destroy();
    }
  } catch (error) {
    yield findingOf(error);
  }
}

function withoutMetadata(region: string): Finding {
  return warn(
    "instance",
    `in ${region}; the instance metadata service is off (AWS_EC2_METADATA_DISABLED), so only ` +
      "the node's address identifies the instance",
  );
}

/** Makes calls again that EC2 throttled; the agent spaces its own. */
function retryThrottled(client: Calls["client"]): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      for (let pause = FIRST_PAUSE;; pause *= 2) {
        try {
          return await next(args);
        } catch (error) {
          if (faultOf("", error).kind !== "throttled" || pause > LAST_PAUSE) throw error;
          await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random())));
        }
      }
    },
    { step: "initialize" },
  );
}

/** @throws what is not EC2's fault */
function findingOf(error: unknown): Finding {
  if (!(error instanceof Ec2Fault)) throw error;
  return fail(error.action, error.message, error.details.fix);
}

async function* examineInstance(
  calls: Calls,
  patient: Patient,
  instanceId: string | undefined,
): AsyncGenerator<Finding> {
  // Said first, since then EC2 is hardly within reach.
  if (patient.addresses.length === 0) {
    yield fail(
      "network interface",
      "this node has only loopback addresses",
      "bring up the interface that is in the VPC (ip link, DHCP)",
    );
  }
  const may = yield* describePermissions(calls.client);
  if (!may.interfaces) return;
  const place = yield* examineInterface(calls, patient, instanceId);
  if (place === undefined) return;
  const tableIds = may.tables
    ? yield* examineRouting(calls, patient, place)
    : [...patient.tableIds];
  const { eni, siblings, address } = place;
  const destination = familiesOf(patient)[0]?.min ?? EXAMPLE_SUBNET;
  yield* routePermissions(calls.client, { tableIds, destination, eniId: eni.id });
  const onlyInstance = siblings === 0 ? instanceId : undefined;
  yield* examineSourceDestCheck(calls, eni, onlyInstance);
  const groups = await groupsPermission(calls.client);
  yield groups;
  if (groups.verdict === "pass") {
    yield* attempt(examineGroups(calls.client, eni, familiesOf(patient)));
  }
  yield mtu(address, patient.mtu);
}

/** Finds the network interface. */
async function* examineInterface(
  { ec2 }: Calls,
  { addresses, isChosen }: Patient,
  instanceId: string | undefined,
): AsyncGenerator<Finding, Place | undefined> {
  const check = "network interface";
  if (addresses.length === 0) return undefined;
  if (isChosen) {
    const [address] = addresses;
    try {
      const found = await findEni(ec2, { instanceId, ip: address.ip });
      yield pass(check, `${found.eni.id} has ${address.ip}`);
      return { ...found, address };
    } catch (error) {
      yield findingOf(error);
      if (!(error instanceof Ec2Fault) || error.code !== "NoInterface") return undefined;
    }
  }
  // An address alone, which the agent would not take, may be another instance's.
  if (instanceId === undefined) return undefined;
  const there = await ec2.enisOfInstance(instanceId);
  for (const address of isChosen ? addresses.slice(1) : addresses) {
    const eni = there.find((each) => each.addresses.includes(address.ip));
    if (eni === undefined) continue;
    const detail = `${address.interfaceName} has ${address.ip}, which is ${eni.id}'s`;
    yield warn(check, detail, `start flanneld with --iface=${address.interfaceName}`);
    return { eni, siblings: there.length - 1, address };
  }
  if (!isChosen) {
    const all = addresses.map(({ ip }) => ip).join(", ");
    yield fail(
      check,
      `no network interface of ${instanceId} has an address of this node: ${all}`,
    );
  }
  return undefined;
}

/** @returns the tables whose routes the agent changes */
async function* examineRouting(
  calls: Calls,
  patient: Patient,
  { eni }: Place,
): AsyncGenerator<Finding, string[]> {
  const { tableIds: named, addresses, leases } = patient;
  const own = new Set([...addresses.map(({ ip }) => ip), ...eni.addresses]);
  const isOwn = ({ attrs }: Lease) =>
    [attrs.publicIP, attrs.publicIPv6].some((ip) => ip !== null && own.has(ip));
  try {
    const ours = yield* examineTables(calls, {
      eni,
      named,
      families: familiesOf(patient),
      own: leases.filter(isOwn),
      peers: leases.filter((lease) => !isOwn(lease)),
    });
    return ours.map(({ id }) => id);
  } catch (error) {
    yield findingOf(error);
    return [...named];
  }
}

async function* examineSourceDestCheck(
  { client }: Calls,
  { id: eniId, sourceDestCheck }: Eni,
  instanceId: string | undefined,
): AsyncGenerator<Finding> {
  const check = "source/dest check";
  // Without need of the permission nobody has to give it.
  if (!sourceDestCheck) return yield pass(check, `off on ${eniId}`);
  const { isAllowed, findings } = await sourceDestCheckPermission(client, { instanceId, eniId });
  if (isAllowed) {
    yield* findings;
    return yield warn(check, `on at ${eniId}; the agent switches it off`);
  }
  // What matters is in the line after it.
  for (const finding of findings) yield { ...finding, verdict: "warn" };
  yield fail(
    check,
    `on at ${eniId}, and the agent may not switch it off: the VPC drops packets from and to ` +
      "containers, so containers of different nodes cannot reach each other",
    switchOffCommand(eniId),
  );
}

/** Findings up to a fault, which is one more. */
async function* attempt(findings: AsyncGenerator<Finding>): AsyncGenerator<Finding> {
  try {
    yield* findings;
  } catch (error) {
    yield findingOf(error);
  }
}

/** What containers may send, and what the VPC carries. */
function mtu({ mtu: own, interfaceName }: NodeAddress, configured: number): Finding {
  const check = "MTU";
  if (configured <= VPC_MTU && configured <= own) {
    return pass(check, `${configured} by Backend.MTU; ${own} on ${interfaceName}`);
  }
  if (own === VPC_MTU) return pass(check, `${own}`);
  const detail = `${own} on ${interfaceName}; instances of one VPC can send ${VPC_MTU}`;
  if (own < VPC_MTU) return warn(check, detail);
  return fail(check, detail, `ip link set dev ${interfaceName} mtu ${VPC_MTU}`);
}

function familiesOf({ network }: Patient) {
  return [network?.ipv4, network?.ipv6].filter((half) => half !== null && half !== undefined);
}
