/**
 * The permissions of `cli/permissions.ts` as the two ways to make a binary take them.
 *
 * @module
 */
import { FLAG_NAMES, flagOf } from "../cli/flags.ts";
import { BACKENDS, ENTRIES, type Kind, KINDS, type Permissions } from "../cli/permissions.ts";

/** Flags whose value the launcher hands on in the environment. */
export const SECRET_FLAGS = FLAG_NAMES.filter((name) => flagOf(name).secret);

/** The fields of the launcher manifest's `grant` lines, the agent's entry first. */
export function grantLines(): string[][] {
  return Object.entries(ENTRIES).flatMap(([entry, permissions], index) =>
    // The backend is not known before the agent has asked etcd.
    [permissions, ...(index === 0 ? Object.values(BACKENDS) : [])].flatMap((one) =>
      KINDS.flatMap((kind) => items(one, kind).map((item) => ["grant", entry, kind, ...item]))
    )
  );
}

function items(permissions: Permissions, kind: Kind): string[][] {
  const list = permissions[kind] ?? [];
  if (list === "all") return [[]];
  return list.map((item) => {
    if (item === "library") return ["text", "{path:libdataplane.so}"];
    if (item === "licences") return ["text", "{path:licences.txt}"];
    const [, source, text] = /^(flag|folder|program|variable|list|setting):(.*)$/.exec(item) ?? [];
    return source === undefined ? ["text", item] : [source, text];
  });
}

/**
 * Flags for `deno compile`, whose permissions are the same for each start: all that some entry has,
 * and a kind as a whole where an item depends on the start.
 */
export function widestPermissions(): string[] {
  const all = [...Object.values(ENTRIES), ...Object.values(BACKENDS)];
  return KINDS.map((kind) => {
    const lists = all.map((permissions) => permissions[kind] ?? []);
    if (lists.includes("all")) return `--allow-${kind}`;
    const list = [...new Set(lists.flat())];
    // Names of programs are found by PATH as the binary starts.
    const names = list.map((item) => item.replace(/^program:/, ""));
    const fixed = names.every((item) =>
      !/^(flag|folder|variable|list|setting):|^(library|licences|_FLANNELD_CALLER_\*)$/.test(item)
    );
    return fixed ? `--allow-${kind}=${names.join(",")}` : `--allow-${kind}`;
  });
}
