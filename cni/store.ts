/**
 * The delegates' configs, kept from ADD to DEL: a file each in `dataDir`, named by the container's
 * id as flannel's plugin names it, so that either finds what the other left. A second interface of
 * a container has a file of its own, `ID:IFNAME`.
 *
 * @module
 */
import type { DelegateConf } from "./delegate.ts";
import { IDENTIFIER } from "./invocation.ts";
import { isObject, type JsonObject } from "./netconf.ts";

/** Key beside the delegate's own. */
const MARK = "flanneld";

/** What is known of an attachment. */
export interface Saved {
  containerId: string;
  /** Undefined where flannel's plugin saved it. */
  ifname: string | undefined;
  /** Done by our own bridge, not by the plugin of that name. */
  own: boolean;
  conf: DelegateConf;
  file: string;
}

/** The attachments of one `dataDir`. */
export class Store {
  constructor(readonly dataDir: string) {}

  /**
   * Writes an attachment down, whole or not at all.
   *
   * @returns what makes it last through a power cut; may be called later
   */
  save(containerId: string, ifname: string, own: boolean, conf: DelegateConf): () => void {
    Deno.mkdirSync(this.dataDir, { recursive: true, mode: 0o700 });
    const file = this.#fileFor(containerId, ifname);
    // No container's id begins with a dot.
    const temporary = `${this.dataDir}/.${Deno.pid}.tmp`;
    const text = JSON.stringify({ ...conf, [MARK]: { ifname, own } });
    Deno.writeTextFileSync(temporary, text, { mode: 0o600 });
    Deno.renameSync(temporary, file);
    return () => {
      const written = Deno.openSync(file);
      try {
        written.syncSync();
      } finally {
        written.close();
      }
    };
  }

  /** The attachment; undefined where none was saved, or what was saved is no config. */
  load(containerId: string, ifname: string): Saved | undefined {
    const [own, shared] = [`${containerId}:${ifname}`, containerId].map((name) => this.#read(name));
    if (own !== undefined) return own;
    return shared?.ifname === undefined || shared.ifname === ifname ? shared : undefined;
  }

  /** All attachments to this network. */
  list(network: string): Saved[] {
    const names: string[] = [];
    try {
      for (const { name, isFile } of Deno.readDirSync(this.dataDir)) if (isFile) names.push(name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return names.map((name) => this.#read(name))
      .filter((saved): saved is Saved => saved?.conf.name === network);
  }

  /** Forgets an attachment. */
  remove({ file }: Saved): void {
    try {
      Deno.removeSync(file);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  #fileFor(containerId: string, ifname: string): string {
    const shared = this.#read(containerId);
    const free = shared === undefined || shared.ifname === ifname;
    return `${this.dataDir}/${free ? containerId : `${containerId}:${ifname}`}`;
  }

  #read(name: string): Saved | undefined {
    const containerId = name.split(":")[0];
    if (!IDENTIFIER.test(containerId)) return undefined;
    const file = `${this.dataDir}/${name}`;
    let value: unknown;
    try {
      value = JSON.parse(Deno.readTextFileSync(file));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
      throw error;
    }
    if (!isConf(value)) return undefined;
    const { [MARK]: mark, ...conf } = value;
    const { ifname, own } = (isObject(mark) ? mark : {}) as { ifname?: string; own?: boolean };
    return { containerId, ifname, own: own === true, conf: conf as DelegateConf, file };
  }
}

function isConf(value: unknown): value is DelegateConf & JsonObject {
  return isObject(value) && typeof value.type === "string" && typeof value.name === "string" &&
    isObject(value.ipam);
}
