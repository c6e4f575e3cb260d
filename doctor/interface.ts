/**
 * Which interface the agent takes, and why.
 *
 * @module
 */
import { UsageError } from "../agent/errors.ts";
import { type Choice, choose } from "../agent/interface.ts";
import type { InterfaceOptions } from "../agent/options.ts";
import { fail, type Finding, pass } from "../backends/finding.ts";
import type { DataPlane } from "../dataplane/mod.ts";
import type { NetworkConfig } from "../subnet/config.ts";

/** Returns the choice; undefined where none can be made. */
export async function* examineInterface(
  options: InterfaceOptions,
  network: NetworkConfig | undefined,
  dataplane: DataPlane,
): AsyncGenerator<Finding, Choice | undefined> {
  const families = { ipv4: network?.ipv4 !== null, ipv6: Boolean(network?.ipv6) };
  try {
    const choice = await choose(options, families, dataplane, () => {});
    const { name, mtu, ip, ipv6, publicIP, publicIPv6 } = choice.view;
    const announced = [publicIP, publicIPv6].filter((one) => one && one !== ip && one !== ipv6);
    const addresses = [ip, ipv6].filter(Boolean).join(" and ");
    yield pass(
      "interface",
      `${name} with ${addresses}${
        announced.length > 0 ? `, announced as ${announced.join(" and ")}` : ""
      }, MTU ${mtu}: ${await why(choice, options, dataplane)}`,
    );
    return choice;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    yield fail("interface", error.message, "name an interface with --iface");
    return undefined;
  }
}

/** What led to a choice. */
async function why(
  { byRoute, view: { name } }: Choice,
  { iface, ifaceRegex, ifaceCanReach, publicIP, publicIPv6 }: InterfaceOptions,
  dataplane: DataPlane,
): Promise<string> {
  if (byRoute !== undefined) {
    const route = (await dataplane.defaultRoutes()).find(({ dev, ipv6 }) =>
      dev === name && ipv6 === (byRoute === "ipv6")
    );
    return `it has the main table's default route${
      route === undefined ? "" : ` (metric ${route.metric})`
    }`;
  }
  const flags = [
    ...iface.map((one) => `--iface=${one}`),
    ...ifaceRegex.map(({ source }) => `--iface-regex=${source}`),
    ...(ifaceCanReach === undefined ? [] : [`--iface-can-reach=${ifaceCanReach}`]),
  ];
  if (flags.length > 0) return `it is the first that fits ${flags.join(" ")}`;
  return `it has the address of --public-ip=${publicIP ?? publicIPv6}`;
}
