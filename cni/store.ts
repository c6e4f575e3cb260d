/**
 * The delegates' configs, kept from ADD to DEL: a file each in `dataDir`, named by the container's
 * id as flannel's plugin names it, so that either finds what the other left. A second interface of
 * a container has a file of its own, `ID:IFNAME`.
 *
 * @module
 */
import type { DelegateConf } from "./delegate.ts";
import { IDENTIFIER } from "./invocation.ts";
import { exists, readRegularFile } from "../agent/subnet_file.ts";
import { type Lock, lockFile, replaceFile } from "./lock.ts";
import { isObject, isPluginName, type JsonObject } from "./netconf.ts";

/** Milliseconds after which a temporary file belongs to no call that still runs. */
const STALE = 60_000;

/** Bytes of a file that is read; a delegate's config has a few thousand. */
const LARGEST = 4 << 20;

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

/** A file under an attachment's name that does not say what the delegate was called with. */
export interface Broken {
  containerId: string;
  /** Undefined where neither the file's name nor what is left of its text says. */
  ifname: string | undefined;
  /** The network that its text names, as far as that is left. */
  network: string | undefined;
  file: string;
  /** What is wrong with it. */
  reason: string;
}

/** The attachments of one `dataDir`. */
export class Store {
  constructor(readonly dataDir: string) {}

  /**
   * Waits until no other call for the container is under way.
   *
   * @throws {CniError} where that takes too long
   */
  lock(containerId: string): Lock {
    this.#makeFolder();
    // No container's id begins with a dot.
    return lockFile(`${this.dataDir}/.${containerId}.lock`, `another call for ${containerId}`);
  }

  /** Whether anything may have been saved. */
  get exists(): boolean {
    return exists(this.dataDir);
  }

  #makeFolder(): void {
    Deno.mkdirSync(this.dataDir, { recursive: true, mode: 0o700 });
  }

  /**
   * Writes an attachment down, whole or not at all.
   *
   * @returns what makes it last through a power cut; may be called later
   */
  save(containerId: string, ifname: string, own: boolean, conf: DelegateConf): () => void {
    this.#makeFolder();
    const file = this.#fileFor(containerId, ifname);
    const temporary = `${this.dataDir}/.${Deno.pid}.tmp`;
    const text = JSON.stringify({ ...conf, [MARK]: { ifname, own } });
    replaceFile(file, temporary, text);
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
    const found = this.#find(containerId, ifname);
    return found && isSaved(found) ? found : undefined;
  }

  /** The attachment's file where it is broken; undefined where there is none, or a good one. */
  broken(containerId: string, ifname: string): Broken | undefined {
    const found = this.#find(containerId, ifname);
    return found && !isSaved(found) ? found : undefined;
  }

  #find(containerId: string, ifname: string): Saved | Broken | undefined {
    const [own, shared] = [`${containerId}:${ifname}`, containerId].map((name) => this.#read(name));
    if (own !== undefined) return own;
    return shared?.ifname === undefined || shared.ifname === ifname ? shared : undefined;
  }

  /** All attachments to this network. */
  list(network: string): Saved[] {
    return this.#all().filter(isSaved).filter(({ conf }) => conf.name === network);
  }

  /** Broken files that are this network's, or may be. */
  listBroken(network: string): Broken[] {
    return this.#all().filter((one): one is Broken => !isSaved(one))
      .filter((one) => one.network === undefined || one.network === network);
  }

  #all(): (Saved | Broken)[] {
    return this.#names().map((name) => this.#read(name)).filter((one) => one !== undefined);
  }

  #names(): string[] {
    try {
      return [...Deno.readDirSync(this.dataDir)].map(({ name }) => name);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  /**
   * Forgets an attachment.
   *
   * @throws where its file stays
   */
  remove({ file }: Pick<Saved, "file">): void {
    try {
      Deno.removeSync(file);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  /** Removes what calls left that were killed: files half written, and locks. */
  removeTemporary(): void {
    const names = this.#names();
    for (const name of names.filter((name) => /^\..*\.lock$/.test(name))) {
      try {
        lockFile(`${this.dataDir}/${name}`, "a call", 0).release(true);
      } catch {
        // It is in use.
      }
    }
    const temporary = names.filter((name) => /^\.\d+\.tmp$/.test(name));
    for (const name of temporary) {
      const file = `${this.dataDir}/${name}`;
      const written = Deno.lstatSync(file).mtime?.getTime() ?? Infinity;
      // A younger one may belong to an ADD that is under way.
      if (Date.now() - written > STALE) this.remove({ file });
    }
  }

  #fileFor(containerId: string, ifname: string): string {
    const shared = this.#read(containerId);
    const free = shared === undefined || shared.ifname === ifname;
    return `${this.dataDir}/${free ? containerId : `${containerId}:${ifname}`}`;
  }

  #read(name: string): Saved | Broken | undefined {
    const [containerId, suffix] = name.split(":", 2);
    if (!IDENTIFIER.test(containerId)) return undefined;
    const file = `${this.dataDir}/${name}`;
    let text = "";
    try {
      text = readRegularFile(file, LARGEST);
      const value: unknown = JSON.parse(text);
      if (isConf(value)) return savedFrom(value, containerId, file);
      return brokenFrom("it is not a delegate config");
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
        return undefined;
      }
      if (error instanceof SyntaxError) {
        return brokenFrom(text.trim() === "" ? "it is empty" : "it is not JSON");
      }
      return brokenFrom(`it cannot be read: ${error instanceof Error ? error.message : error}`);
    }

    function brokenFrom(reason: string): Broken {
      const left = (key: string) => new RegExp(`"${key}":\\s*"([^"\\\\]*)"`).exec(text)?.[1];
      return { containerId, ifname: suffix ?? left("ifname"), network: left("name"), file, reason };
    }
  }
}

function isSaved(one: Saved | Broken): one is Saved {
  return "conf" in one;
}

function savedFrom(value: DelegateConf, containerId: string, file: string): Saved {
  const { [MARK]: mark, ...conf } = value;
  const { ifname, own } = isObject(mark) ? mark : {};
  return {
    containerId,
    ifname: typeof ifname === "string" ? ifname : undefined,
    own: own === true,
    conf: conf as DelegateConf,
    file,
  };
}

/** Whether a plugin can be called with it: not a path to somewhere else, nor this one once more. */
function isConf(value: unknown): value is DelegateConf & JsonObject {
  return isObject(value) && isPluginName(value.type) && value.type !== "flannel" &&
    typeof value.name === "string" && IDENTIFIER.test(value.name) && isObject(value.ipam) &&
    isPluginName(value.ipam.type);
}
