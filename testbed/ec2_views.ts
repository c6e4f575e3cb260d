/**
 * What EC2's Describe calls show and moto's do not: black holes, routes as they were a while ago,
 * network interfaces by all their addresses, and instances by their network interfaces.
 *
 * @module
 */
import { withItems } from "./ec2_pages.ts";

/** One item of a table's routes, and its target. */
const ROUTE =
  /<item>(?:(?!<item>|<\/item>).)*<(?:networkInterfaceId|gatewayId|vpcPeeringConnectionId|transitGatewayId)>(.+?)<(?:(?!<item>|<\/item>).)*<\/item>/gs;

const TABLE = /<routeTableId>(rtb-\w+)<\/routeTableId><routeSet>(.*?)<\/routeSet>/gs;

/** An interface from its IPv6 addresses to its IPv4 ones; its id is between them. */
const INTERFACE =
  /<ipv6AddressesSet.*?<networkInterfaceId>(.*?)<.*?<privateIpAddressesSet>.*?<\/privateIpAddressesSet>/gs;

/** moto has every route active. */
export function withBlackHoles(xml: string, gone: ReadonlySet<string>): string {
  return xml.replaceAll(
    ROUTE,
    (route: string, id: string) =>
      gone.has(id) ? route.replace("<state>active<", "<state>blackhole<") : route,
  );
}

/** The routes of each table, as XML. */
export function routesByTable(xml: string): Map<string, string> {
  return new Map([...xml.matchAll(TABLE)].map(([, id, routes]) => [id, routes]));
}

/** Shows each table with these routes in place of its own, and no other table. */
export function withRoutes(xml: string, routes: ReadonlyMap<string, string>): string {
  return withItems(xml, "routeTableSet", (tables) => ({
    items: tables.flatMap((table) => {
      const [, id = "", own] = [...table.matchAll(TABLE)][0] ?? [];
      const old = routes.get(id);
      return old === undefined ? [] : [table.replace(`>${own}<`, () => `>${old}<`)];
    }),
  }));
}

/** Parameters of a query besides the version. */
type Query = Record<string, string>;

/** The filters of a call, by their names. */
export function filtersOf(params: URLSearchParams): Map<string, string[]> {
  const filters = new Map<string, string[]>();
  for (let n = 1; params.has(`Filter.${n}.Name`); n++) {
    const values = [...params].filter(([name]) => name.startsWith(`Filter.${n}.Value.`));
    filters.set(params.get(`Filter.${n}.Name`)!, values.map(([, value]) => value));
  }
  return filters;
}

/** A query with one filter; moto takes one without a value for none. */
export function filtered(action: string, name: string, values: Iterable<string>): Query {
  const entries = [...new Set(["none", ...values])].map((value, index) =>
    [`Filter.1.Value.${index + 1}`, value] as const
  );
  return { Action: action, "Filter.1.Name": name, ...Object.fromEntries(entries) };
}

/** Ids of the network interfaces that have one of these addresses, primary or not. */
export function interfacesWith(addresses: readonly string[], interfacesXml: string): string[] {
  return [...interfacesXml.matchAll(INTERFACE)].filter(([eni]) =>
    addresses.some((address) => eni.includes(`ddress>${address}<`))
  ).map(([, id]) => id);
}

/** Ids of the instances that these network interfaces are attached to. */
export function instancesOf(interfacesXml: string): string[] {
  return [...interfacesXml.matchAll(/<instanceId>(.*?)</g)].map(([, id]) => id);
}
