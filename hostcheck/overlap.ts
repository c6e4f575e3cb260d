/**
 * Whether the overlay's network overlaps addresses or routes that the host has for something else.
 *
 * @module
 */
import { type Finding, pass, warn } from "../backends/finding.ts";
import type { Overlap } from "../dataplane/host.ts";
import { Cidr } from "../base/cidr.ts";
import type { HostFacts, HostSource } from "./facts.ts";

const CHECK = "network overlap";

/** Overlaps that are named. */
const MOST = 5;

/** Looks at both families. What belongs to this node's own subnet is its containers'. */
export async function overlapFindings(
  { network, backend, lease }: Omit<HostFacts, "iface" | "peers">,
  source: Pick<HostSource, "overlaps">,
): Promise<Finding[]> {
  const networks = [network.ipv4, network.ipv6].flatMap((half) => half ? [`${half.network}`] : []);
  // alloc's subnets are routed by somebody else.
  if (backend.type === "alloc") return [];
  const own = [lease?.subnet, lease?.ipv6Subnet].flatMap((subnet) => subnet ? [`${subnet}`] : []);
  const found = await source.overlaps({ networks, own, devs: [...backend.devices] });
  if (found.length === 0) {
    return [pass(CHECK, `${networks.join(" and ")} overlaps no address or route of this host`)];
  }
  const findings = found.slice(0, MOST).map(findingOf);
  if (found.length > MOST) {
    findings.push(warn(CHECK, `${found.length - MOST} more addresses and routes overlap it`));
  }
  return findings;
}

function findingOf(overlap: Overlap): Finding {
  const { kind, network, cidr, dev, via, table } = overlap;
  const where = [
    via && `via ${via}`,
    dev && `dev ${dev}`,
    table !== undefined && `table ${table}`,
  ].filter(Boolean).join(" ");
  const start = `the overlay network ${network} overlaps`;
  if (kind === "address") {
    return warn(
      CHECK,
      `${start} the address ${cidr} on ${dev}: hosts and containers of ${inside(overlap)} cannot ` +
        "both be reached",
      `set another Network in the network config, or remove the address (ip address del ${cidr} ` +
        `dev ${dev})`,
    );
  }
  const route = `${cidr} ${where}`.trim();
  return warn(
    CHECK,
    `${start} the route ${route}: packets to ${inside(overlap)} may take that route`,
    `set another Network in the network config, or remove the route (ip route del ${route})`,
  );
}

/** The smaller of the two: what both have. */
function inside({ network, cidr }: Overlap): string {
  const [overlay, other] = [Cidr.parse(network), Cidr.parse(cidr)];
  return overlay.length > other.length ? `${overlay}` : `${other}`;
}
