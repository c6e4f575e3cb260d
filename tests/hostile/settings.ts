/** What repeats a run of hostile data, and makes it longer. */

/** Of the generator. */
export const SEED = Number(Deno.env.get("HOSTILE_SEED") ?? 6);

/** How many values of a kind. */
export const COUNT = Number(Deno.env.get("HOSTILE_COUNT") ?? 100_000);

/** How many leases are put into etcd. */
export const AGENT_COUNT = Number(Deno.env.get("HOSTILE_AGENT_COUNT") ?? 10_000);
