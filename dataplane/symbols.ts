/**
 * The native library's table (`dataplane-rs/dataplane/src/lib.rs`), and the only place that opens it.
 *
 * @module
 */

/** The version of the table that this program understands. */
const ABI_VERSION = 7;

/** What every use of the library needs. */
const BASE = {
  dp_abi_version: {
    parameters: [],
    result: "u32", // uint32_t
  },
  dp_length: {
    parameters: [
      "pointer", // const char *answer
    ],
    result: "usize", // size_t
  },
  dp_take: {
    parameters: [
      "pointer", // char *answer
      "buffer", // uint8_t *copy
      "usize", // size_t length
    ],
    result: "void", // void
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The data plane. */
const SYMBOLS = {
  ...BASE,
  dp_open: {
    parameters: [],
    result: "pointer", // char *
  },
  dp_apply: {
    parameters: [
      "u32", // uint32_t handle
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_change: {
    parameters: [
      "u32", // uint32_t handle
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_next_event: {
    parameters: [
      "u32", // uint32_t handle
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_interfaces: {
    parameters: [
      "u32", // uint32_t handle
    ],
    result: "pointer", // char *
  },
  dp_default_routes: {
    parameters: [
      "u32", // uint32_t handle
    ],
    result: "pointer", // char *
  },
  dp_routes_to: {
    parameters: [
      "u32", // uint32_t handle
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
  },
  dp_gateway_to: {
    parameters: [
      "u32", // uint32_t handle
      "buffer", // const uint8_t *subnet
      "usize", // size_t length
    ],
    result: "pointer", // char *
  },
  dp_counters: {
    parameters: [
      "u32", // uint32_t handle
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_adopt: {
    parameters: [
      "u32", // uint32_t handle
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_missing_capabilities: {
    parameters: [],
    result: "pointer", // char *
  },
  dp_forwarding: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
  },
  dp_watch_filter: {
    parameters: [
      "u32", // uint32_t handle
      "u32", // uint32_t millis
    ],
    result: "pointer", // char *
  },
  dp_release_memory: {
    parameters: [],
    result: "void", // void
    nonblocking: true,
  },
  dp_inspect: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_host: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_cleanup: {
    parameters: [
      "u32", // uint32_t handle
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_attachment: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
  },
  dp_close: {
    parameters: [
      "u32", // uint32_t handle
    ],
    result: "void", // void
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The agent on its host. */
const STATION = {
  ...BASE,
  dp_hold: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
  },
  dp_serve: {
    parameters: [
      "u32", // uint32_t station
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
  },
  dp_next_question: {
    parameters: [
      "u32", // uint32_t station
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_answer: {
    parameters: [
      "u32", // uint32_t station
      "u32", // uint32_t topic
      "u32", // uint32_t status
      "buffer", // const uint8_t *part
      "usize", // size_t length
      "u8", // uint8_t last
    ],
    result: "void", // void
  },
  dp_release: {
    parameters: [
      "u32", // uint32_t station
    ],
    result: "void", // void
  },
  dp_ask: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
  dp_notify: {
    parameters: [
      "buffer", // const uint8_t *json
      "usize", // size_t length
    ],
    result: "pointer", // char *
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The opened library, as far as all uses of it go. */
export type BaseLibrary = Pick<Deno.DynamicLibrary<typeof BASE>, "symbols">;
/** The opened library, for the data plane. */
export type Library = Deno.DynamicLibrary<typeof SYMBOLS>;
/** The opened library, for the agent on its host. */
export type StationLibrary = Deno.DynamicLibrary<typeof STATION>;

/**
 * Opens the native library.
 *
 * @throws Error of one line, when it is missing, cannot be loaded, or is of another version
 */
export function openLibrary(path: string): Library {
  return checked(path, load(path, SYMBOLS));
}

/** As {@linkcode openLibrary}, for the agent on its host. */
export function openStationLibrary(path: string): StationLibrary {
  return checked(path, load(path, STATION));
}

function checked<T extends BaseLibrary & { close(): void }>(path: string, library: T): T {
  const version = library.symbols.dp_abi_version();
  if (version !== ABI_VERSION) {
    library.close();
    throw new Error(
      `${path} has version ${version} of the data plane's interface, this program needs ` +
        `${ABI_VERSION}: install the two from one build`,
    );
  }
  return library;
}

function load<const S extends Deno.ForeignLibraryInterface>(
  path: string,
  symbols: S,
): Deno.DynamicLibrary<S> {
  try {
    return Deno.dlopen(path, symbols);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `cannot load the data plane's library ${path}: ${reason.split("\n")[0]}: build it with ` +
        "cargo build --release in dataplane-rs, or install it whole",
      { cause: error },
    );
  }
}
