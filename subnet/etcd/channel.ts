/**
 * How calls to one etcd endpoint travel: channel options, TLS, the user's token.
 *
 * @module
 */
import { isIP } from "node:net";
import type { Etcd3, IOptions } from "etcd3";

/** Where etcd is and how to get in. */
export interface EtcdAccess {
  /** URLs, `http://` or `https://`. */
  endpoints: string[];
  /** PEM files: authority, client certificate and its key. */
  cafile?: string;
  certfile?: string;
  keyfile?: string;
  username?: string;
  password?: string;
}

/** Milliseconds for one call. */
export const CALL_LIMIT = 8_000;

/**
 * Milliseconds for reading all leases. An etcd that many ask at once is slow; giving up and asking again
 * makes it slower. One that is away is noticed by the channel's own pings.
 */
export const READ_LIMIT = 30_000;

/** Options of the gRPC channel. */
export const CHANNEL = {
  // The default, 4 MB, is less than 10,000 leases. What is more is read in pages, so that a store
  // full of large values, up to 8 GB, takes no more memory than this at a time.
  "grpc.max_receive_message_length": 32 * 1024 * 1024,
  // 64 KiB by default, which makes a large snapshot wait for many round trips.
  "grpc-node.flow_control_window": 4 * 1024 * 1024,
  // Notices an etcd that went away without a word; the server takes no pings more often than 5 s.
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 5_000,
  // Spares a DNS query for a TXT record that no etcd has.
  "grpc.service_config_disable_resolution": 1,
};

/**
 * A user's token, which goes along with each call. etcd3's own login opens a channel without our
 * options, {@linkcode targetName} among them.
 */
export class Login {
  #token: string | undefined;

  /** Gets a token for a user. */
  async as(etcd: Etcd3, user: { name: string; password: string }): Promise<void> {
    this.#token = (await etcd.auth.authenticate(user)).token;
  }

  /**
   * Adds the token to a call, and that the member must have a leader: one that is cut off from its
   * cluster then ends the watch rather than being silent (etcd's `clientv3.WithRequireLeader`).
   */
  readonly interceptor: Interceptor = (options, nextCall) => {
    const call = nextCall(options);
    const token = this.#token;
    const start = call.start.bind(call);
    call.start = (metadata, listener) => {
      metadata.set("hasleader", "true");
      if (token !== undefined) metadata.set("token", token);
      start(metadata, listener);
    };
    // gRPC calls no more than the interface; its type asks for a class that cannot be had here.
    return call as ReturnType<Interceptor>;
  };
}

/** Interceptors as gRPC takes them. */
type Interceptor = NonNullable<
  ReturnType<Extract<IOptions["defaultCallOptions"], (...args: never[]) => unknown>>["interceptors"]
>[number];

/**
 * For an endpoint that is an IP address: grpc-js gives it to TLS as the server's name, which the
 * runtime refuses. With a final dot it is taken, and the certificate is checked for the address all
 * the same, as the check leaves the dot out.
 */
export function targetName(endpoint: string): { "grpc.ssl_target_name_override"?: string } {
  const host = new URL(endpoint).hostname.replace(/^\[|\]$/g, "");
  return isIP(host) ? { "grpc.ssl_target_name_override": `${host}.` } : {};
}

/** Leaves fault handling to {@linkcode EtcdClient}. The shape is cockatiel's `IPolicy`. */
export const NO_POLICY = {
  _altReturn: undefined as never,
  onSuccess: () => ({ dispose: () => {} }),
  onFailure: () => ({ dispose: () => {} }),
  execute: async <T>(
    call: (context: { signal: AbortSignal }) => PromiseLike<T> | T,
    signal?: AbortSignal,
  ): Promise<T> => await call({ signal: signal ?? NEVER }),
};

const NEVER = new AbortController().signal;
