/**
 * Where etcd is, as the flags say.
 *
 * @module
 */

/** Where etcd is and how to talk to it. */
export interface EtcdOptions {
  /** URLs, `http://` or `https://`. */
  endpoints: string[];
  /** Key prefix without a trailing slash: `/coreos.com/network`. */
  prefix: string;
  /** PEM file paths. */
  cafile?: string;
  certfile?: string;
  keyfile?: string;
  username?: string;
  password?: string;
}
