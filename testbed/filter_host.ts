/** Hosts with packet filters, for tests of the traffic rules alone. */
import { Commands, createTrafficRules, type TrafficRulesOptions } from "../traffic/mod.ts";
import { NetNs, run, veth } from "./netns.ts";

/** A folder in which `iptables` and its kin are those of one variant, and nothing else is. */
async function variantFolder(variant: string): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "fl-iptables-" });
  for (const base of ["iptables", "ip6tables"]) {
    for (const suffix of ["", "-save", "-restore"]) {
      const real = (await run("which", [`${base}-${variant}${suffix}`])).trim();
      await Deno.symlink(await Deno.realPath(real), `${folder}/${base}${suffix}`);
    }
  }
  return folder;
}

/** A namespace and the commands of one variant in it. */
export async function filterHost(
  variant: "nft" | "legacy",
  options: TrafficRulesOptions = {},
) {
  const ns = await NetNs.create("tr");
  const folder = await variantFolder(variant);
  const commands = new Commands({
    folders: [folder, "/usr/sbin", "/usr/bin", "/bin"],
    prefix: ["ip", "netns", "exec", ns.name],
  });
  const all = { commands, ...options };
  return {
    ns,
    commands,
    folder,
    rules: createTrafficRules("iptables", all),
    /** A later run of the agent on the same host. */
    again: () => createTrafficRules("iptables", all),
    nftables: () => createTrafficRules("nftables", all),
    ipt: (...args: string[]) => ns.run(`${folder}/iptables`, "-w", ...args),
    save: async (base = "iptables") => uncounted(await ns.run(`${folder}/${base}-save`)),
    [Symbol.asyncDispose]: async () => {
      await ns[Symbol.asyncDispose]();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** Output of iptables-save without counters and dates. */
function uncounted(text: string): string {
  return text.replaceAll(/^#.*\n/gm, "").replaceAll(/\[\d+:\d+\]/g, "");
}

/**
 * A container behind a node and a host outside, which has no route back to the container: only
 * what the node masquerades gets an answer.
 */
export async function topology(
  h: Awaited<ReturnType<typeof filterHost>>,
  pod: NetNs,
  outside: NetNs,
) {
  await veth({ ns: h.ns, dev: "cni0", addresses: ["10.1.5.1/24", "fd00:1:0:5::1/64"] }, {
    ns: pod,
    dev: "eth0",
    addresses: ["10.1.5.2/24", "fd00:1:0:5::2/64"],
    via: ["10.1.5.1", "fd00:1:0:5::1"],
  });
  await veth({ ns: h.ns, dev: "eth0", addresses: ["192.0.2.1/24", "2001:db8::1/64"] }, {
    ns: outside,
    dev: "eth0",
    addresses: ["192.0.2.2/24", "2001:db8::2/64"],
  });
  await h.ns.sysctl("net.ipv4.ip_forward", 1);
  await h.ns.sysctl("net.ipv6.conf.all.forwarding", 1);
}
