/**
 * What the plugin `bridge` does, by the data plane: for nodes where it is not installed.
 *
 * @module
 */
import { attach, type Attached, checkAttachment, detach } from "../dataplane/attachment.ts";
import type { DelegateConf } from "./delegate.ts";
import { CniError, CODES, invalid } from "./errors.ts";
import type { CniCommand, Invocation } from "./invocation.ts";
import { isObject, type JsonObject, VALID_ATTACHMENTS, type ValidAttachment } from "./netconf.ts";
import { digest, masquerade, unmasquerade } from "./masquerade.ts";
import { OwnIpam } from "./own_ipam.ts";
import { makeAttachment, parseOwnOptions, withDefaultRoutes } from "./own_options.ts";
import { findPlugin, requirePlugin, runPlugin } from "./plugins.ts";
import { type IpamResult, makeResult, parseIpamResult } from "./result.ts";

/** The IPAM plugin that {@linkcode OwnIpam} stands in for. */
const HOST_LOCAL = "host-local";

/** One delegate's config, done by our own bridge. */
export class OwnBridge {
  /** @param libraryPath of the data plane */
  constructor(
    readonly libraryPath: string,
    readonly conf: DelegateConf,
    readonly invocation: Invocation,
  ) {}

  /**
   * Attaches the container; what fails halfway is taken back.
   *
   * @returns the result for the runtime
   */
  async add(): Promise<JsonObject> {
    const { conf, invocation, libraryPath } = this;
    const options = parseOwnOptions(conf);
    const host = await this.#hostName();
    const given = await this.#addAddresses();
    let attached: Attached | undefined;
    try {
      const ipam = withDefaultRoutes(given, options);
      if (isObject(conf.dns)) ipam.dns = conf.dns;
      attached = attach(libraryPath, makeAttachment(options, ipam, invocation, host));
      if (options.ipMasq) await masquerade(ipam.ips, this.#container());
      return makeResult(String(conf.cniVersion), attached, ipam, invocation.netns);
    } catch (error) {
      // The first error is the one to tell.
      await this.#undo(attached && host).catch(() => {});
      throw error;
    }
  }

  /**
   * Takes the container's interface, rules and addresses away; what is not there is no error.
   *
   * @param foreign the plugin `bridge` made it, under a name that is known in the container only
   */
  async remove(foreign: boolean): Promise<void> {
    const { conf, invocation: { netns, ifname } } = this;
    const host = await this.#hostName();
    detach(this.libraryPath, { host, ifname, ...(foreign && netns !== "" ? { netns } : {}) });
    if (conf.ipMasq === true) await unmasquerade(this.#container());
    await this.#ipam("DEL", (ipam) => ipam.remove(this.invocation));
  }

  /** Whether the plugin is there that has the container's addresses. */
  get hasIpam(): boolean {
    const type = String(this.conf.ipam.type);
    return type === HOST_LOCAL || findPlugin(type, this.invocation.path) !== undefined;
  }

  /** @throws {CniError} that tells all that is not as ADD left it */
  async check(prevResult: JsonObject | undefined): Promise<void> {
    if (prevResult === undefined) throw invalid("CHECK needs prevResult, the result of ADD");
    const result = parseIpamResult(prevResult, "prevResult");
    const options = parseOwnOptions(this.conf);
    const host = await this.#hostName();
    const wanted = makeAttachment(options, result, this.invocation, host);
    const problems = checkAttachment(this.libraryPath, wanted);
    if (problems.length > 0) {
      const { containerId, ifname } = this.invocation;
      throw new CniError(CODES.internal, `${containerId} ${ifname}: ${problems.join("; ")}`);
    }
    await this.#ipam("CHECK", (ipam) => ipam.check(this.invocation, result), { prevResult });
  }

  /** Gives back the addresses of all attachments but these. */
  async collect(valid: readonly ValidAttachment[]): Promise<void> {
    await this.#ipam("GC", (ipam) => ipam.collect(valid), { [VALID_ATTACHMENTS]: valid });
  }

  /** @throws {CniError} where ADD could not be served */
  async status(): Promise<void> {
    parseOwnOptions(this.conf);
    await this.#ipam("STATUS", (ipam) => ipam.status());
  }

  async #addAddresses(): Promise<IpamResult> {
    let given: IpamResult | undefined;
    const result = await this.#ipam("ADD", (ipam) => {
      given = ipam.add(this.invocation);
    });
    return given ?? parseIpamResult(result, `the result of ${this.conf.ipam.type}`);
  }

  /** Calls the IPAM plugin, or our own where host-local is wanted and is not there. */
  async #ipam(
    command: CniCommand,
    own: (ipam: OwnIpam) => void,
    more: JsonObject = {},
  ): Promise<JsonObject | undefined> {
    const { conf, invocation: { path, variables, args, containerId, ifname, netns } } = this;
    const type = String(conf.ipam.type);
    if (type === HOST_LOCAL && findPlugin(type, path) === undefined) {
      own(new OwnIpam(conf, command === "ADD" ? args : "", command === "DEL"));
      return undefined;
    }
    const program = requirePlugin(type, path);
    const config = { ...conf, ...more };
    // A collecting call removes containers that this process was not called for.
    const env = { CNI_CONTAINERID: containerId, CNI_IFNAME: ifname, CNI_NETNS: netns };
    return await runPlugin({ program, type, command, config, env }, { path, variables });
  }

  /** @param host the interface to remove: none but one that this call has made */
  async #undo(host: string | undefined): Promise<void> {
    if (host !== undefined) {
      detach(this.libraryPath, { host, ifname: this.invocation.ifname });
      await unmasquerade(this.#container());
    }
    await this.#ipam("DEL", (ipam) => ipam.remove(this.invocation));
  }

  #container() {
    return { network: this.conf.name, containerId: this.invocation.containerId };
  }

  /** Made of the container's id, so that it is known without its namespace, and is no other's. */
  async #hostName(): Promise<string> {
    const { containerId, ifname } = this.invocation;
    return `veth${(await digest("SHA-256", `${containerId}:${ifname}`)).slice(0, 8)}`;
  }
}
