/**
 * The commands of the plugin: each reads the config and the node's lease, and has the delegate, or
 * our own bridge, do the work.
 *
 * @module
 */
import { exists } from "../agent/subnet_file.ts";
import { type DelegateConf, makeDelegate, rebuildDelegate } from "./delegate.ts";
import { CniError, CODES } from "./errors.ts";
import type { CniCommand, Invocation } from "./invocation.ts";
import { isNotNetns } from "./netns.ts";
import { type JsonObject, type NetConf, VALID_ATTACHMENTS } from "./netconf.ts";
import type { OwnBridge } from "./own_bridge.ts";
import { findPlugin, requirePlugin, runPlugin } from "./plugins.ts";
import { withGateways } from "./result.ts";
import { type Broken, type Saved, Store } from "./store.ts";
import { loadSubnetEnv, type SubnetEnv } from "./subnet_env.ts";

/** The delegate that our own bridge stands in for. */
const BRIDGE = "bridge";

/** One call for one network. */
export class Plugin {
  readonly #store: Store;
  /** The call as DEL takes it. */
  readonly #removal: Invocation;

  /** @param libraryPath of the data plane, for our own bridge */
  constructor(
    readonly invocation: Invocation,
    readonly netconf: NetConf,
    readonly libraryPath: string,
  ) {
    this.#store = new Store(netconf.dataDir);
    const { netns } = invocation;
    // What is not a namespace, or not any more, is gone for DEL.
    this.#removal = netns !== "" && isNotNetns(netns) ? { ...invocation, netns: "" } : invocation;
  }

  /**
   * Carries the call out.
   *
   * @returns what goes to standard output; undefined for nothing
   * @throws {CniError | Error}
   */
  async run(): Promise<JsonObject | undefined> {
    const { command, containerId } = this.invocation;
    switch (command) {
      case "ADD":
        return await this.#add();
      case "DEL":
        // Where nothing was ever saved, nothing has to be removed.
        if (this.#store.exists) await this.#locked(containerId, () => this.#del());
        break;
      case "CHECK":
        await this.#check();
        break;
      case "GC":
        await this.#collect();
        break;
      case "STATUS":
        await this.#status();
    }
    return undefined;
  }

  async #add(): Promise<JsonObject | undefined> {
    const { invocation: { containerId }, netconf } = this;
    const conf = makeDelegate(netconf, loadSubnetEnv(netconf.subnetFile));
    const own = this.#isOwn(conf);
    // Not found is told before anything is written.
    if (!own) requirePlugin(conf.type, this.invocation.path);
    this.#requireNamespace();
    return await this.#locked(containerId, () => this.#attach(conf, own));
  }

  /** Does `work` while no other call for the container is under way. */
  async #locked<T>(containerId: string, work: () => Promise<T>): Promise<T> {
    const lock = this.#store.lock(containerId);
    try {
      return await work();
    } finally {
      lock.release(true);
    }
  }

  #requireNamespace(): void {
    const { netns } = this.invocation;
    if (!isNotNetns(netns)) return;
    throw new CniError(
      CODES.invalidEnvironment,
      `CNI_NETNS ${JSON.stringify(netns)} is not a network namespace`,
    );
  }

  async #attach(conf: DelegateConf, own: boolean): Promise<JsonObject | undefined> {
    const { containerId, ifname } = this.invocation;
    const before = this.#store.load(containerId, ifname);
    const keep = this.#store.save(containerId, ifname, own, conf);
    try {
      if (!own) return await this.#delegate("ADD", conf, {}, keep);
      const bridge = await this.#ownBridge(conf);
      keep();
      return await bridge.add();
    } catch (error) {
      // One that was there before this call stays, with what it holds.
      if (before === undefined) await this.#undo(own);
      throw error;
    }
  }

  /** After an ADD that failed: the delegate is asked for DEL (SPEC.md, section 4). */
  async #undo(own: boolean): Promise<void> {
    const { containerId, ifname } = this.invocation;
    const saved = this.#store.load(containerId, ifname);
    // Our own bridge has taken back what it had made; what else is there is not its own.
    if (own && saved) return this.#store.remove(saved);
    try {
      await this.#del();
    } catch {
      // The runtime's own DEL tries again.
    }
  }

  async #del(): Promise<void> {
    const { invocation: { containerId, ifname }, netconf: { prevResult } } = this;
    const saved = this.#store.load(containerId, ifname);
    if (saved) return await this.#remove(saved, this.#removal, prevResult);
    const broken = this.#store.broken(containerId, ifname);
    if (broken) return await this.#removeBroken(broken, this.#removal, prevResult);
    // Never added, or removed before: as good as removed.
  }

  async #remove(saved: Saved, invocation: Invocation, prevResult?: JsonObject): Promise<void> {
    if (await this.#detach(saved, invocation, prevResult)) this.#store.remove(saved);
  }

  /** Has the container taken off the network. @returns whether nothing is left of it */
  async #detach(
    { conf, own }: Pick<Saved, "conf" | "own">,
    invocation: Invocation,
    prevResult?: JsonObject,
  ): Promise<boolean> {
    const isOwn = own || this.#isOwn(conf);
    if (!isOwn && findPlugin(conf.type, invocation.path) !== undefined) {
      const more = prevResult === undefined ? {} : { prevResult };
      await this.#delegate("DEL", conf, more, undefined, environmentOf(invocation));
      // Without a namespace, bridge and ptp do not know whose rules to remove.
      if (conf.ipMasq === true && !exists(invocation.netns)) await unmasquerade(conf, invocation);
      return true;
    }
    const bridge = await this.#ownBridge(conf, invocation);
    if (!isOwn) warn(`${missing(conf.type, invocation)}: removing what can be removed without it`);
    if (isOwn || bridge.hasIpam) {
      await bridge.remove(!own);
      return true;
    }
    // Kept for a GC when the plugins are there again.
    warn(`${missing(String(conf.ipam.type), invocation)}: the container's addresses stay reserved`);
    return false;
  }

  /** Removes an attachment by the network config of this call: that of ADD is lost. */
  async #removeBroken(
    broken: Broken,
    invocation: Invocation,
    prevResult?: JsonObject,
  ): Promise<void> {
    const { file, reason, containerId } = broken;
    warn(
      `the state file ${file} is broken: ${reason}; removing ${containerId} ${invocation.ifname} with ` +
        "a config rebuilt from the network config",
    );
    const conf = rebuildDelegate(this.netconf, this.#subnetEnv());
    // What is missing now would be missing the next time, and the file is of no use.
    await this.#detach({ conf, own: false }, invocation, prevResult);
    try {
      this.#store.remove({ file });
    } catch (error) {
      // A folder that holds something, perhaps: it is nothing of ours.
      warn(`cannot remove ${file}: ${error instanceof Error ? error.message : error}; remove it`);
    }
  }

  /** The node's lease; undefined where the subnet file cannot be used. */
  #subnetEnv(): SubnetEnv | undefined {
    try {
      return loadSubnetEnv(this.netconf.subnetFile);
    } catch {
      return undefined;
    }
  }

  async #check(): Promise<void> {
    const { invocation: { containerId, ifname }, netconf: { prevResult, dataDir } } = this;
    this.#requireNamespace();
    const saved = this.#store.load(containerId, ifname);
    const broken = this.#store.broken(containerId, ifname);
    if (broken) {
      const { file, reason } = broken;
      throw new CniError(CODES.unknownContainer, `the state file ${file} is broken: ${reason}`);
    }
    if (saved === undefined) {
      throw new CniError(
        CODES.unknownContainer,
        `${dataDir} has no record of ${containerId} ${ifname}: it was never added, or has been deleted`,
      );
    }
    if (saved.own) return await (await this.#ownBridge(saved.conf)).check(prevResult);
    const more = prevResult === undefined ? {} : { prevResult: withGateways(prevResult) };
    await this.#delegate("CHECK", saved.conf, more);
  }

  /** Removes what belongs to attachments that are no more; errors are told when all was tried. */
  async #collect(): Promise<void> {
    const { netconf: { validAttachments: valid, name } } = this;
    const errors: unknown[] = [];
    const attempt = async (work: () => Promise<void>) => {
      try {
        await work();
      } catch (error) {
        errors.push(error);
      }
    };
    const isValid = ({ containerId, ifname }: Saved | Broken) =>
      valid.some((item) =>
        item.containerID === containerId && (ifname === undefined || item.ifname === ifname)
      );
    const removeEach = async <T extends Saved | Broken>(
      found: T[],
      remove: (one: T, invocation: Invocation) => Promise<void>,
    ) => {
      for (const one of found.filter((one) => !isValid(one))) {
        const { containerId, ifname = "eth0" } = one;
        const invocation = { ...this.#removal, containerId, ifname };
        await attempt(() =>
          this.#locked(containerId, async () => {
            // Another call may have removed it while this one waited.
            if (exists(one.file)) await remove(one, invocation);
          })
        );
      }
    };
    await removeEach(this.#store.list(name), (saved, call) => this.#remove(saved, call));
    await removeEach(this.#store.listBroken(name), (one, call) => this.#removeBroken(one, call));
    await attempt(() => Promise.resolve(this.#store.removeTemporary()));
    await attempt(() => this.#collectDelegate());
    if (errors.length === 0) return;
    const told = errors.map((error) => CniError.from(error));
    throw new CniError(told[0].code, told.map(({ message }) => message).join("; "));
  }

  async #collectDelegate(): Promise<void> {
    const { netconf } = this;
    const conf = makeDelegate(netconf, loadSubnetEnv(netconf.subnetFile));
    const valid = netconf.validAttachments;
    if (this.#isOwn(conf)) return await (await this.#ownBridge(conf)).collect(valid);
    await this.#delegate("GC", conf, { [VALID_ATTACHMENTS]: valid });
  }

  async #status(): Promise<void> {
    const { netconf } = this;
    try {
      const conf = makeDelegate(netconf, loadSubnetEnv(netconf.subnetFile));
      if (this.#isOwn(conf)) await (await this.#ownBridge(conf)).status();
      else await this.#delegate("STATUS", conf);
    } catch (error) {
      throw this.#unavailable(CniError.from(error));
    }
  }

  /** The reason why ADD cannot be served; without a lease the containers there suffer, too. */
  #unavailable(error: CniError): CniError {
    const limited = error.code === CODES.tryAgainLater &&
      this.#store.list(this.netconf.name).length > 0;
    const code = limited ? CODES.limitedConnectivity : CODES.notAvailable;
    return new CniError(code, error.message, error.details);
  }

  #isOwn({ type }: DelegateConf): boolean {
    return type === BRIDGE && findPlugin(BRIDGE, this.invocation.path) === undefined;
  }

  /** Loaded where it is wanted only: it is no part of the way to a delegate. */
  async #ownBridge(conf: DelegateConf, invocation = this.invocation): Promise<OwnBridge> {
    const { OwnBridge } = await import("./own_bridge.ts");
    return new OwnBridge(this.libraryPath, conf, invocation);
  }

  async #delegate(
    command: CniCommand,
    conf: DelegateConf,
    more: JsonObject = {},
    meanwhile?: () => void,
    env?: Record<string, string>,
  ): Promise<JsonObject | undefined> {
    const program = requirePlugin(conf.type, this.invocation.path);
    const call = { program, type: conf.type, command, config: { ...conf, ...more }, env };
    return await runPlugin(call, this.invocation, meanwhile);
  }
}

/** One line on standard error, which runtimes log. */
function warn(message: string): void {
  console.error(`flanneld: warning: ${message}`);
}

/** Removes a container's rules, by whichever plugin that names its chain as `bridge` does. */
async function unmasquerade({ name: network }: DelegateConf, { containerId }: Invocation) {
  const { unmasquerade } = await import("./masquerade.ts");
  await unmasquerade({ network, containerId });
}

function missing(type: string, { path }: Invocation): string {
  return `no plugin ${JSON.stringify(type)} in ${path.join(", ") || "CNI_PATH"}`;
}

/** The variables of a call for a container that this process was not called for. */
function environmentOf({ containerId, ifname, netns, args }: Invocation): Record<string, string> {
  return {
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: ifname,
    CNI_NETNS: netns,
    CNI_ARGS: args,
  };
}
