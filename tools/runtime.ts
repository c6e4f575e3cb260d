/**
 * How the program runs inside the one binary: the runtime's flags, kept in one place for `pack` and
 * `compile`.
 *
 * @module
 */
import { ROOT } from "./process.ts";

/** The runtime that goes into the binary. */
export const DENO_VERSION = "2.9.6";

/** What the program may do; datagram sockets, by which it tells the service manager, are asked for. */
export const PERMISSIONS = ["--allow-all", "--unstable-net"];

/**
 * V8's flags. Measured on an idle agent with an etcd watch: resident 72 to 68 MB, private dirty 29
 * to 23 MB, start unchanged. `--lite-mode` would save 6 MB more, but runs without the compiler.
 */
export const V8_FLAGS = ["--optimize-for-size"];

/** Where the built binary goes. */
export const BINARY = `${ROOT}/dist/flanneld`;

/**
 * The bundle's folder. Seen from it, the library lies where it does in a checkout seen from
 * `cli/`, so that the program finds it in a compiled binary as it does there.
 */
export const BUNDLE = `${ROOT}/dist/work/bundle`;

/** A copy of the library beside {@link BUNDLE}, in a checkout's place. */
export const BUNDLED_LIBRARY = `${ROOT}/dist/work/dataplane-rs/target/release/libdataplane.so`;
