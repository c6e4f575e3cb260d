/**
 * The store as the sub-commands see it: an answer within seconds or one clear error, unlike the
 * agent, which waits for a store that is away.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { Etcd3 } from "etcd3";
import { etcdOptions } from "./agent_options.ts";
import type { Settings } from "./parse.ts";

/** Milliseconds for one call. */
const LIMIT = 10_000;

/** Network config in the store. */
export interface Store extends AsyncDisposable {
  /** Key of the network config. */
  readonly configKey: string;
  /** The network config as stored; undefined where there is none. */
  config(): Promise<string | undefined>;
  /** Replaces the network config. */
  putConfig(text: string): Promise<void>;
}

/** Opens the store that the flags name. */
export function openStore(settings: Settings): Store {
  const { endpoints, prefix, cafile, certfile, keyfile, username, password } = etcdOptions(
    settings,
  );
  const read = (path: string | undefined) =>
    path === undefined ? undefined : Buffer.from(Deno.readFileSync(path));
  const rootCertificate = read(cafile);
  const client = new Etcd3({
    hosts: endpoints,
    credentials: rootCertificate &&
      { rootCertificate, privateKey: read(keyfile), certChain: read(certfile) },
    auth: username && password ? { username, password } : undefined,
    dialTimeout: LIMIT,
    defaultCallOptions: () => ({ deadline: Date.now() + LIMIT }),
  });
  const configKey = `${prefix}/config`;
  return {
    configKey,
    config: async () => await client.get(configKey).string() ?? undefined,
    putConfig: async (text) => void await client.put(configKey).value(text),
    [Symbol.asyncDispose]: () => Promise.resolve(client.close()),
  };
}
