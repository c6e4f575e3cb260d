/**
 * A proxy before moto's EC2 API, over TLS with a certificate of its own authority: counts the calls by action, answers in moto's place with EC2's own
 * errors where a test asks for it, and does what EC2 does and moto does not:
 *
 * - `CreateRoute` for a destination that is there answers RouteAlreadyExists, and for a full table
 *   RouteLimitExceeded;
 * - `DryRun` of any action changes nothing and answers DryRunOperation;
 * - routes to the network interface of a terminated instance are black holes;
 * - an instance's source/dest check is its primary network interface's, as long as that is its only
 *   one;
 * - `DescribeInstances` finds instances by their network interfaces, and these are found by all
 *   their addresses;
 * - route tables come in pages.
 *
 * Errors: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { certificate, certificateAuthority, type TlsFiles } from "./certificates.ts";
import { pageOf } from "./ec2_pages.ts";
import {
  filtered,
  filtersOf,
  instancesOf,
  interfacesWith,
  routesByTable,
  withBlackHoles,
  withRoutes,
} from "./ec2_views.ts";
import { documentedActions } from "./documented.ts";
import { Gate } from "./gate.ts";
import type { NetNs } from "./netns.ts";

/** Where the certificate may be shown: addresses of this host and of the tests' namespaces. */
const ADDRESSES = ["127.0.0.1", "::1", "192.168.77.1", "172.31.16.1", "fd77::1"];
const NAMES = [
  ...["localhost", "*.amazonaws.com", "*.eu-central-1.amazonaws.com", "*.eu-central-1.api.aws"],
];

/** Of all that moto has here. */
const MOTO_REGION = "eu-central-1";

/** Milliseconds by which the clock of who calls may be wrong. */
const MOST_SKEW = 300_000;

/** All that the documentation asks operators to allow: what is called besides is refused. */
const DOCUMENTED: ReadonlySet<string> = new Set(documentedActions());

/** A call that came. */
export interface Ec2Call {
  /** `CreateRoute` */
  action: string;
  /** Parameters of the query, `DestinationCidrBlock` and so on. */
  params: URLSearchParams;
  /** The access key that it is signed with; empty where it is not signed, as with web identities. */
  accessKey: string;
  /** Status of the answer. */
  status: number;
  /** The access key in STS's answer. */
  issued?: string;
  /** Milliseconds since the epoch. */
  at: number;
}

/** An error of EC2, given in moto's place. */
export interface Ec2Error {
  status: number;
  code: string;
  message: string;
}

/** Errors in EC2's own words. */
export const EC2_ERRORS = {
  unauthorized: {
    status: 403,
    code: "UnauthorizedOperation",
    message: "You are not authorized to perform this operation.",
  },
  expired: { status: 400, code: "RequestExpired", message: "Request has expired." },
  throttled: { status: 503, code: "RequestLimitExceeded", message: "Request limit exceeded." },
  routeExists: (destination: string) => ({
    status: 400,
    code: "RouteAlreadyExists",
    message: `The route identified by ${destination} already exists.`,
  }),
  tableFull: {
    status: 400,
    code: "RouteLimitExceeded",
    message: "The maximum number of routes has been reached.",
  },
  routeNotFound: (tableId: string, destination: string) => ({
    status: 400,
    code: "InvalidRoute.NotFound",
    message: `no route with destination-cidr-block ${destination} in route table ${tableId}`,
  }),
  /** The refusal of today's EC2; `because` is how it ends: `because no … policy allows …`. */
  denied: (action: string, because: string, resource = "*") => ({
    status: 403,
    code: "UnauthorizedOperation",
    message: "You are not authorized to perform this operation. User: " +
      "arn:aws:sts::123456789012:assumed-role/Node/i-0abc is not authorized to perform: " +
      `ec2:${action} on resource: ${resource} ${because}. Encoded authorization failure message: ` +
      "rXwBmDf1hZl0Y_ZVcbXSOmHwkQ",
  }),
  severalInterfaces: (instanceId: string) => ({
    status: 400,
    code: "InvalidInstanceID",
    message: `There are multiple interfaces attached to instance '${instanceId}'. Please specify ` +
      "an interface ID for the operation instead.",
  }),
  dryRun: {
    status: 412,
    code: "DryRunOperation",
    message: "Request would have succeeded, but DryRun flag is set.",
  },
} as const;

/** What the policies of this project's users allow. */
export const POLICIES = {
  /** That of the lab, which is flannel's. */
  lab: [
    ...["CreateRoute", "DeleteRoute", "ReplaceRoute"],
    ...["DescribeRouteTables", "DescribeInstances"],
  ],
  /** That of this project's documentation, as it was before. */
  interfaces: [
    ...["CreateRoute", "DeleteRoute", "ReplaceRoute"],
    ...["DescribeRouteTables", "DescribeNetworkInterfaces"],
    ...["ModifyInstanceAttribute", "ModifyNetworkInterfaceAttribute"],
  ],
};

/** Answers that a test asked for. */
interface Rule {
  action: string;
  error: Ec2Error;
  /** How often it still applies. */
  left: number;
  isMeant(params: URLSearchParams): boolean;
}

/** See the module. */
export class Ec2Proxy implements AsyncDisposable {
  /** All calls, in the order of their answers. */
  readonly calls: Ec2Call[] = [];
  /** Routes that a table holds at most, EC2's default quota; local ones do not count. */
  routesPerTable = 50;
  /** Milliseconds that each answer is held back. */
  delay = 0;
  /** Network interfaces whose instances were terminated. */
  readonly gone = new Set<string>();
  /** Access keys whose credentials have expired. */
  readonly expired = new Set<string>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #gate: Gate;
  readonly #rules: Rule[] = [];
  #allowed: ReadonlySet<string> = DOCUMENTED;
  /** Shown in place of what the tables have now; undefined: they are shown as they are. */
  #oldRoutes: ReadonlyMap<string, string> | undefined;
  /** One change at a time: what is looked at before holds until it is made. */
  #changes: Promise<unknown> = Promise.resolve();

  private constructor(
    /** moto's URL. */
    readonly moto: string,
    readonly folder: string,
    /** Of the server; `ca` is the authority's certificate, to be trusted by those that call. */
    readonly tls: TlsFiles,
  ) {
    this.#server = Deno.serve(
      {
        hostname: "127.0.0.1",
        port: 0,
        onListen: () => {},
        cert: Deno.readTextFileSync(tls.cert),
        key: Deno.readTextFileSync(tls.key),
      },
      (request) => this.#serve(request),
    );
    this.#gate = new Gate(this.port);
  }

  /** Starts one on loopback before moto at this URL. */
  static async start(moto: string): Promise<Ec2Proxy> {
    const folder = await Deno.makeTempDir({ prefix: "ec2-" });
    try {
      const authority = await certificateAuthority(folder, "authority");
      const tls = await certificate(folder, "server", authority, [...ADDRESSES, ...NAMES]);
      return new Ec2Proxy(moto, folder, tls);
    } catch (error) {
      await Deno.remove(folder, { recursive: true });
      throw error;
    }
  }

  /** `https://127.0.0.1:PORT` */
  get endpoint(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** Of the endpoint, on loopback. */
  get port(): number {
    return this.#server.addr.port;
  }

  /**
   * Serves inside a namespace, too, until that is removed.
   *
   * @param ip an address of the namespace, one of those in the certificate
   * @returns the URL there
   */
  async serveIn(ns: NetNs, ip: string, port = 5000): Promise<string> {
    if (!ADDRESSES.includes(ip)) throw new Error(`EC2's certificate is not for ${ip}`);
    await this.#gate.listenIn(ns, ip, port);
    return `https://${ip.includes(":") ? `[${ip}]` : ip}:${port}`;
  }

  /**
   * Answers an action, or each with `*`, with an error, so many times; disposing ends it.
   *
   * @param isMeant leaves calls out by their parameters
   */
  answer(
    action: string,
    error: Ec2Error,
    times = Infinity,
    isMeant: Rule["isMeant"] = () => true,
  ): Disposable {
    const rule = { action, error, left: times, isMeant };
    this.#rules.push(rule);
    return { [Symbol.dispose]: () => void (rule.left = 0) };
  }

  /** Refuses all other actions, as where a policy allows only these; disposing ends it. */
  allowOnly(actions: readonly string[]): Disposable {
    this.#allowed = new Set(actions);
    return { [Symbol.dispose]: () => void (this.#allowed = DOCUMENTED) };
  }

  /**
   * Goes on showing the route tables that there are now with the routes that they have, as EC2 may
   * for a while; disposing ends it.
   */
  async freezeTables(): Promise<Disposable> {
    const signed = new Headers({
      "content-type": "application/x-www-form-urlencoded",
      authorization: `AWS4-HMAC-SHA256 Credential=test/20260101/${MOTO_REGION}/ec2/aws4_request`,
    });
    const { text } = await this.#query(signed, { Action: "DescribeRouteTables" });
    this.#oldRoutes = routesByTable(withBlackHoles(text, this.gone));
    return { [Symbol.dispose]: () => void (this.#oldRoutes = undefined) };
  }

  /** How often each action was called since the call at index `from`. */
  count(from = 0): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { action } of this.calls.slice(from)) counts[action] = (counts[action] ?? 0) + 1;
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gate[Symbol.asyncDispose]();
    await this.#server.shutdown();
    await Deno.remove(this.folder, { recursive: true });
  }

  async #serve(request: Request): Promise<Response> {
    const at = Date.now();
    const body = await request.text();
    const params = new URLSearchParams(body);
    const action = params.get("Action") ?? "";
    if (this.delay > 0) await new Promise((done) => setTimeout(done, this.delay));
    const answered = () => this.#answer(action, params, request.headers, body);
    const response = action.startsWith("Describe") ? answered() : this.#changes.then(answered);
    if (!action.startsWith("Describe")) this.#changes = response.catch(() => {});
    try {
      const { status, text } = await response;
      const accessKey = accessKeyOf(request.headers);
      const issued = /<AccessKeyId>(.*?)</.exec(text)?.[1];
      this.calls.push({ action, params, accessKey, status, issued, at });
      return new Response(text, {
        status,
        headers: { "content-type": "text/xml;charset=UTF-8", "x-amzn-requestid": randomUUID() },
      });
    } catch (error) {
      return new Response(String(error), { status: 502 });
    }
  }

  async #answer(
    action: string,
    params: URLSearchParams,
    headers: Headers,
    body: string,
  ): Promise<{ status: number; text: string }> {
    const rule = this.#rules.find((rule) =>
      rule.left > 0 && (rule.action === action || rule.action === "*") && rule.isMeant(params)
    );
    if (rule) rule.left--;
    // STS asks no policy whether a web identity may assume a role.
    const forbidden = !this.#allowed.has(action) && !action.startsWith("AssumeRole");
    const error = rule?.error ??
      (this.expired.has(accessKeyOf(headers)) || isOld(headers) ? EC2_ERRORS.expired : undefined) ??
      (forbidden ? EC2_ERRORS.unauthorized : undefined) ??
      (params.get("DryRun") === "true" ? EC2_ERRORS.dryRun : undefined) ??
      await this.#refused(action, params, headers);
    if (error) return { status: error.status, text: errorXml(error, action) };
    const answer = await this.#describe(action, params, headers) ??
      await this.#forward(body, headers);
    if (action === "DescribeRouteTables") {
      const now = withBlackHoles(answer.text, this.gone);
      const shown = this.#oldRoutes ? withRoutes(now, this.#oldRoutes) : now;
      return { ...answer, text: pageOf(shown, "routeTableSet", params) };
    }
    if (action === "ModifyInstanceAttribute" && answer.status === 200) {
      await this.#modifyPrimary(params, headers);
    }
    return answer;
  }

  /** Answers a call whose filter moto does not know. */
  async #describe(
    action: string,
    params: URLSearchParams,
    headers: Headers,
  ): Promise<{ status: number; text: string } | undefined> {
    const prefix = action === "DescribeInstances" ? "network-interface." : "";
    if (prefix === "" && action !== "DescribeNetworkInterfaces") return undefined;
    const filter = [...filtersOf(params)].find(([name]) => name.startsWith(prefix));
    if (filter === undefined) return undefined;
    const [name, values] = [filter[0].slice(prefix.length), filter[1]];
    let query = filtered("DescribeNetworkInterfaces", name, values);
    if (name.startsWith("addresses.") || name.startsWith("ipv6-addresses.")) {
      const { text } = await this.#query(headers, { Action: "DescribeNetworkInterfaces" });
      const ids = interfacesWith(values, text);
      query = filtered("DescribeNetworkInterfaces", "network-interface-id", ids);
    }
    const answer = await this.#query(headers, query);
    if (prefix === "") return answer;
    return await this.#query(headers, filtered(action, "instance-id", instancesOf(answer.text)));
  }

  async #forward(body: string, headers: Headers): Promise<{ status: number; text: string }> {
    const kept = new Headers();
    for (const name of ["authorization", "content-type", "x-amz-date"]) {
      const value = headers.get(name);
      if (value) kept.set(name, value);
    }
    const response = await fetch(this.moto, { method: "POST", body, headers: kept });
    return { status: response.status, text: await response.text() };
  }

  #query(
    headers: Headers,
    params: Record<string, string>,
  ): Promise<{ status: number; text: string }> {
    return this.#forward(`${new URLSearchParams({ Version: "2016-11-15", ...params })}`, headers);
  }

  /** Why EC2 would refuse what moto takes. */
  async #refused(
    action: string,
    params: URLSearchParams,
    headers: Headers,
  ): Promise<Ec2Error | undefined> {
    if (action === "CreateRoute") return await this.#createRefused(params, headers);
    if (action !== "ModifyInstanceAttribute") return undefined;
    const enis = await this.#interfacesOf(params, headers);
    return enis.length > 1
      ? EC2_ERRORS.severalInterfaces(params.get("InstanceId") ?? "")
      : undefined;
  }

  async #createRefused(params: URLSearchParams, headers: Headers): Promise<Ec2Error | undefined> {
    const { text } = await this.#query(headers, {
      Action: "DescribeRouteTables",
      "RouteTableId.1": params.get("RouteTableId") ?? "",
    });
    const wanted = params.get("DestinationCidrBlock") ?? params.get("DestinationIpv6CidrBlock");
    const routes = text.match(/<item>(?:(?!<item>|<\/item>).)*<origin>.*?<\/item>/gs) ?? [];
    if (routes.some((route) => destination(route) === wanted)) {
      return EC2_ERRORS.routeExists(wanted ?? "");
    }
    const counted = routes.filter((route) => !route.includes("<gatewayId>local</gatewayId>"));
    return counted.length >= this.routesPerTable ? EC2_ERRORS.tableFull : undefined;
  }

  async #modifyPrimary(params: URLSearchParams, headers: Headers): Promise<void> {
    const check = params.get("SourceDestCheck.Value");
    if (check === null) return;
    const [id] = await this.#interfacesOf(params, headers);
    if (id === undefined) return;
    await this.#query(headers, {
      Action: "ModifyNetworkInterfaceAttribute",
      NetworkInterfaceId: id,
      "SourceDestCheck.Value": check,
    });
  }

  /** Ids of the network interfaces of the instance that a call is for. */
  async #interfacesOf(params: URLSearchParams, headers: Headers): Promise<string[]> {
    const { text } = await this.#query(headers, {
      Action: "DescribeNetworkInterfaces",
      "Filter.1.Name": "attachment.instance-id",
      "Filter.1.Value.1": params.get("InstanceId") ?? "",
    });
    return [...text.matchAll(/<networkInterfaceId>(.*?)</g)].map(([, id]) => id);
  }
}

/** `AWS4-HMAC-SHA256 Credential=KEY/20260101/eu-central-1/ec2/aws4_request, …` */
function accessKeyOf(headers: Headers): string {
  return /Credential=([^/]+)/.exec(headers.get("authorization") ?? "")?.[1] ?? "";
}

/** Whether a request was signed more than 5 minutes ago, or from now. */
function isOld(headers: Headers): boolean {
  if (!headers.has("authorization")) return false;
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/
    .exec(headers.get("x-amz-date") ?? "") ?? [];
  const [year, month, day, hour, minute, second] = parts.map(Number);
  const signed = Date.UTC(year, month - 1, day, hour, minute, second);
  return Math.abs(Date.now() - signed) > MOST_SKEW;
}

function destination(route: string): string | undefined {
  return /<destination(?:Ipv6)?CidrBlock>(.*?)</.exec(route)?.[1];
}

function errorXml({ code, message }: Ec2Error, action: string): string {
  if (action.startsWith("AssumeRole")) {
    return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>` +
      `<Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error>` +
      `<RequestId>${randomUUID()}</RequestId></ErrorResponse>`;
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>${code}</Code>` +
    `<Message>${message}</Message></Error></Errors><RequestID>${randomUUID()}</RequestID></Response>`;
}
