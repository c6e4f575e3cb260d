/** What repeats a run of hostile data, and makes it longer. */

/** Of the generator; of the day where the environment names none, so that runs differ. */
export const SEED = Number(Deno.env.get("HOSTILE_SEED") ?? Math.floor(Date.now() / 86_400_000));

/** How many values of a kind. */
export const COUNT = Number(Deno.env.get("HOSTILE_COUNT") ?? 100_000);
