/**
 * Network interfaces, as `DescribeInstances` or `DescribeNetworkInterfaces` shows them.
 *
 * Either is enough, and policies allow one or the other. `DescribeInstances` comes first: it is what
 * flannel calls, so policies made for flannel allow it, and it shows only what can be a node's. The
 * other also shows interfaces of load balancers and the like, and unattached ones, which no node has.
 *
 * @module
 */
import {
  type EC2Client,
  type Filter,
  type Instance,
  type InstanceNetworkInterface,
  type NetworkInterface,
  paginateDescribeInstances,
  paginateDescribeNetworkInterfaces,
} from "@aws-sdk/client-ec2";
import { formatIp, tryParseIp } from "../../base/cidr.ts";
import { Ec2Fault, faultOf } from "./faults.ts";
import type { Eni } from "./types.ts";

/** Instances or interfaces per page, EC2's maximum. */
const PAGE = 1000;

/** Pages of one answer: EC2 may send empty ones, but not without end. */
const MOST_PAGES = 100;

/** Values per filter, EC2's maximum. */
const MOST_VALUES = 200;

/** The call to try first, and the one that an error asks to allow. */
const PREFERRED = "DescribeInstances";

/** Which interfaces are asked for; the filter is one of DescribeNetworkInterfaces. */
type Query = { instanceId: string } | { filter: string; values: readonly string[] };

/** One of the two calls. @throws {Ec2Fault} */
type Describe = (query: Query) => Promise<Eni[]>;

/** See the module. All calls throw {@linkcode Ec2Fault}. */
export class Interfaces {
  /** The one that succeeded last comes first. */
  #calls: [Describe, Describe];

  constructor(readonly client: EC2Client, readonly options: { abortSignal?: AbortSignal }) {
    this.#calls = [(query) => this.#instances(query), (query) => this.#interfaces(query)];
  }

  ofInstance(instanceId: string): Promise<Eni[]> {
    return this.#ask({ instanceId });
  }

  /** Those of instances that have one with this address. */
  async withAddress(ip: string): Promise<Eni[]> {
    const filter = ip.includes(":")
      ? "ipv6-addresses.ipv6-address"
      : "addresses.private-ip-address";
    const enis = await this.#ask({ filter, values: [ip] });
    return enis.filter(({ instanceId }) => instanceId !== undefined);
  }

  /** Those that exist. */
  async byIds(ids: readonly string[]): Promise<Eni[]> {
    const enis: Eni[] = [];
    for (let from = 0; from < ids.length; from += MOST_VALUES) {
      const values = ids.slice(from, from + MOST_VALUES);
      enis.push(...await this.#ask({ filter: "network-interface-id", values }));
    }
    // DescribeInstances shows an instance with all its interfaces.
    const wanted = new Set(ids);
    return enis.filter(({ id }) => wanted.has(id));
  }

  async #ask(query: Query): Promise<Eni[]> {
    const [call, other] = this.#calls;
    try {
      return await call(query);
    } catch (first) {
      if (!isUnavailable(first)) throw first;
      try {
        const enis = await other(query);
        this.#calls = [other, call];
        return enis;
      } catch (second) {
        if (isUnavailable(second)) throw faultOfBoth(first, second);
        // Unlike the first, it may succeed next time.
        this.#calls = [other, call];
        throw second;
      }
    }
  }

  #instances(query: Query): Promise<Eni[]> {
    // EC2 accepts no page size together with an instance's id.
    const [pageSize, input] = "instanceId" in query
      ? [undefined, { InstanceIds: [query.instanceId] }]
      : [PAGE, filtered(`network-interface.${query.filter}`, query.values)];
    const pages = paginateDescribeInstances(
      { client: this.client, pageSize },
      input,
      this.options,
    );
    return gather(
      PREFERRED,
      pages,
      ({ Reservations = [] }) =>
        Reservations.flatMap(({ Instances = [] }) => Instances).flatMap(enisOf),
    );
  }

  #interfaces(query: Query): Promise<Eni[]> {
    // Filters, since a single id that no longer exists would fail the whole call.
    const input = "instanceId" in query
      ? filtered("attachment.instance-id", [query.instanceId])
      : filtered(query.filter, query.values);
    const pages = paginateDescribeNetworkInterfaces(
      { client: this.client, pageSize: PAGE },
      input,
      this.options,
    );
    return gather(
      "DescribeNetworkInterfaces",
      pages,
      ({ NetworkInterfaces = [] }) =>
        NetworkInterfaces.map((eni) => eniOf(eni, eni.Attachment?.InstanceId)),
    );
  }
}

function filtered(Name: string, values: readonly string[]): { Filters: Filter[] } {
  return { Filters: [{ Name, Values: [...values] }] };
}

/** Whether the other call may succeed: this one is not allowed, or this endpoint lacks it. */
function isUnavailable(error: unknown): error is Ec2Fault {
  return error instanceof Ec2Fault && ["unauthorized", "refused", "server"].includes(error.kind);
}

/** The fault to report where both calls failed: allowing either is enough. */
function faultOfBoth(first: Ec2Fault, second: Ec2Fault): Ec2Fault {
  if (first.kind !== "unauthorized") return first;
  if (second.kind !== "unauthorized") return second;
  const [preferred, other] = first.action === PREFERRED ? [first, second] : [second, first];
  const { kind, action, code, message, details } = preferred;
  const fix = `${details.fix}; ec2:${other.action} is also sufficient`;
  return new Ec2Fault(kind, action, code, message, { ...details, fix });
}

async function gather<Page>(
  action: string,
  pages: AsyncIterable<Page>,
  enisOfPage: (page: Page) => Eni[],
): Promise<Eni[]> {
  const enis: Eni[] = [];
  let requests = 0;
  try {
    for await (const page of pages) {
      enis.push(...enisOfPage(page));
      if (++requests >= MOST_PAGES) throw endlessFault(action);
    }
  } catch (error) {
    const fault = faultOf(action, error);
    // EC2 may not know an instance yet that was just launched.
    if (fault.is("InvalidInstanceID.NotFound")) return [];
    throw fault;
  }
  return enis;
}

function endlessFault(action: string): Ec2Fault {
  const message = `EC2's answer to ${action} has more than ${MOST_PAGES} pages`;
  return new Ec2Fault("server", action, "Endless", message, {
    fix: "check AWS_ENDPOINT_URL_EC2",
  });
}

/** EC2 lists a terminated instance for another hour, but its interfaces are no longer its own. */
function enisOf({ InstanceId, State, NetworkInterfaces = [] }: Instance): Eni[] {
  if (State?.Name === "terminated") return [];
  return NetworkInterfaces.map((eni) => eniOf(eni, InstanceId));
}

function eniOf(eni: NetworkInterface | InstanceNetworkInterface, instanceId?: string): Eni {
  const addresses = [
    ...(eni.PrivateIpAddresses ?? []).flatMap(({ PrivateIpAddress, Association }) => [
      PrivateIpAddress,
      Association?.PublicIp,
    ]),
    ...(eni.Ipv6Addresses ?? []).map(({ Ipv6Address }) => Ipv6Address),
  ];
  return {
    id: eni.NetworkInterfaceId ?? "",
    vpcId: eni.VpcId ?? "",
    subnetId: eni.SubnetId ?? "",
    instanceId,
    sourceDestCheck: eni.SourceDestCheck ?? true,
    addresses: addresses.filter((ip) => ip !== undefined).map(canonical),
    securityGroups: (eni.Groups ?? []).map(({ GroupId }) => GroupId ?? ""),
  };
}

function canonical(ip: string): string {
  const parsed = tryParseIp(ip);
  return parsed ? formatIp(parsed.family, parsed.value) : ip;
}
