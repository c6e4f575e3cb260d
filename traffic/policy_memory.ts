/**
 * Remembers which policy FORWARD had before the agent set it to ACCEPT, in a file beside the subnet
 * file: like the policy itself, it does not outlast a reboot.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";

const log = getLogger(["flanneld", "traffic"]);

/** A table in a variant of a tool: `iptables-nft`, `ip6tables-legacy`. */
const LINE = /^(ip6?tables-(?:nft|legacy)) FORWARD (DROP)$/;

/** See the module. */
export class PolicyMemory {
  readonly #path: string | undefined;

  /** @param subnetFile the subnet file's path; absent: nothing is remembered */
  constructor(subnetFile?: string) {
    this.#path = subnetFile && `${subnetFile}.forward-policy`;
  }

  /** The policy that `variant` had before; undefined where the agent did not change it. */
  recall(variant: string): "DROP" | undefined {
    return this.#read().has(variant) ? "DROP" : undefined;
  }

  /** To be called before the policy is changed: a crash in between does no harm. */
  remember(variant: string): void {
    this.#write((variants) => variants.add(variant));
  }

  forget(variant: string): void {
    this.#write((variants) => variants.delete(variant));
  }

  #read(): Set<string> {
    if (this.#path === undefined) return new Set();
    try {
      const lines = Deno.readTextFileSync(this.#path).split("\n");
      return new Set(lines.flatMap((line) => LINE.exec(line)?.[1] ?? []));
    } catch {
      return new Set();
    }
  }

  #write(change: (variants: Set<string>) => void): void {
    if (this.#path === undefined) return;
    const variants = this.#read();
    const before = variants.size;
    change(variants);
    if (variants.size === before) return;
    try {
      if (variants.size === 0) return Deno.removeSync(this.#path);
      Deno.mkdirSync(this.#path.slice(0, this.#path.lastIndexOf("/") + 1) || ".", {
        recursive: true,
      });
      const temporary = `${this.#path}.tmp`;
      const text = [...variants].map((variant) => `${variant} FORWARD DROP\n`).join("");
      Deno.writeTextFileSync(temporary, text);
      Deno.renameSync(temporary, this.#path);
    } catch (error) {
      log.warn("Cannot write {path}: cleanup will not restore FORWARD's policy: {error}", {
        path: this.#path,
        error: String(error),
      });
    }
  }
}
