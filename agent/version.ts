import config from "../deno.json" with { type: "json" };

/** The program's version: `v0.1.0`. */
export const VERSION = `v${config.version}`;
