/**
 * What FORWARD of iptables' table `filter` does to the overlay's packets.
 *
 * @module
 */
import { iptablesChainRule } from "./iptables_match.ts";
import { type ActualTable, PLACES } from "./save.ts";
import { type ChainRule, judge, type Packet } from "./verdict.ts";

/** See the module. */
export interface ForwardView {
  /** Without rules of ours, packets of the overlay may be dropped at the end. */
  needed: boolean;
  /** Index, among the others' rules of FORWARD, of the first past which no packet gets. */
  end?: number;
  /** That rule. */
  endRule?: string;
  /** With the rules that are there now, packets are lost for certain; what drops them. */
  lost?: string;
}

const [{ base: BASE, chain: OURS }] = PLACES;

/** Looks at a table as it is. */
export function viewForward(actual: ActualTable, packets: readonly Packet[]): ForwardView {
  const policy = actual.policy === undefined || actual.policy === "ACCEPT" ? "accept" : "drop";
  const view: ForwardView = { needed: policy === "drop" };
  if (packets.length === 0) return view;
  const all = new ChainMap(actual.chains);
  const others = (all.get(BASE) ?? []).filter(({ target }) =>
    !("chain" in target && target.chain === OURS)
  );
  const theirs = { get: (name: string) => name === BASE ? others : all.get(name) };
  const base = { name: BASE, policy } as const;
  for (const packet of packets) {
    const { end } = judge(theirs, base, packet);
    if (end !== undefined && end < (view.end ?? Infinity)) {
      view.end = end;
      view.endRule = others[end].text;
      view.needed = true;
    }
    const { lost, culprit } = judge(all, base, packet);
    if (lost) {
      view.lost ??= culprit === undefined ? `the policy ${actual.policy}` : `-A ${BASE} ${culprit}`;
    }
  }
  return view;
}

/** Looks again only at what has changed: a host may have thousands of rules. */
export class ForwardViews {
  #seen = "";
  #view: ForwardView | undefined;

  view(actual: ActualTable, packets: readonly Packet[]): ForwardView {
    const chains = [...actual.chains].map(([name, rules]) => [name, ...rules].join("\n"));
    const asked = packets.map(({ src, dst, from }) => `${src} ${dst} ${from?.bridge}`);
    const seen = [actual.policy, ...asked, ...chains].join("\n");
    if (this.#view === undefined || seen !== this.#seen) {
      this.#view = viewForward(actual, packets);
      this.#seen = seen;
    }
    return this.#view;
  }
}

/** Chains whose rules are read once a packet comes to them: most of a host's are never. */
class ChainMap {
  readonly #texts: ReadonlyMap<string, readonly string[]>;
  readonly #read = new Map<string, ChainRule[]>();

  constructor(texts: ReadonlyMap<string, readonly string[]>) {
    this.#texts = texts;
  }

  get(name: string): readonly ChainRule[] | undefined {
    const known = this.#read.get(name);
    if (known) return known;
    const rules = this.#texts.get(name)?.map((rule) =>
      iptablesChainRule(rule, (target) => this.#texts.has(target))
    );
    if (rules) this.#read.set(name, rules);
    return rules;
  }
}
