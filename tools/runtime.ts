/**
 * How the program runs inside the one binary: the runtime's flags, kept in one place for `pack` and
 * `compile`.
 *
 * @module
 */
import { ROOT } from "./process.ts";

/** The runtime that goes into the binary. */
export const DENO_VERSION = "2.9.6";

/**
 * The runtime's flags but for permissions, which `cli/permissions.ts` lists. Nothing is imported
 * that is not in the binary, no file is looked for that could change how it runs, and what is not
 * permitted fails at once. Variables that are not permitted are as if they were not set.
 */
export const RUNTIME_FLAGS = ["--no-prompt", "--ignore-env", "--deny-import"];

/**
 * V8's flags. Measured on an idle agent: `--optimize-for-size` takes 3 MB off the resident and 5 MB
 * off the private memory, a young generation of 1 MB another 7 MB off the resident; the start is
 * unchanged. `--lite-mode` would save more, but runs without the compiler. `--expose-gc` lets
 * `agent/memory.ts` collect garbage, which V8 does not do for a program that is idle.
 */
export const V8_FLAGS = ["--optimize-for-size", "--max-semi-space-size=1", "--expose-gc"];

/** Where the built binary goes. */
export const BINARY = `${ROOT}/dist/flanneld`;

/**
 * The bundle's folder. Seen from it, the library lies where it does in a checkout seen from
 * `cli/`, so that the program finds it in a compiled binary as it does there.
 */
export const BUNDLE = `${ROOT}/dist/work/bundle`;

/** A copy of the library beside {@link BUNDLE}, in a checkout's place. */
export const BUNDLED_LIBRARY = `${ROOT}/dist/work/dataplane-rs/target/release/libdataplane.so`;
