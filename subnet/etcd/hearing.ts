/**
 * Whether a watch that says nothing is one where nothing happens.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import type { EtcdClient } from "./client.ts";

/**
 * Milliseconds without a word from etcd after which the agent asks for one, whatever answers the
 * connection's own pings: that may be a proxy which has lost the etcd behind it.
 */
const SILENCE = 20_000;

/** Ends a watch by which etcd says nothing, and does not answer either. */
export class Hearing implements Disposable {
  readonly #client: EtcdClient;
  readonly #key: Buffer;
  readonly #deaf = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  /** Aborts with the {@linkcode EtcdFault}, or with the signal given. */
  readonly signal: AbortSignal;
  #isAsking = false;

  constructor(client: EtcdClient, key: Buffer, signal: AbortSignal) {
    this.#client = client;
    this.#key = key;
    this.signal = AbortSignal.any([signal, this.#deaf.signal]);
    this.#timer = setInterval(() => this.#check(), SILENCE * (0.4 + Math.random() * 0.2));
  }

  async #check(): Promise<void> {
    if (this.#isAsking || Date.now() - this.#client.lastContact < SILENCE) return;
    this.#isAsking = true;
    await this.#client.look(this.#key).catch((error) => this.#deaf.abort(error));
    this.#isAsking = false;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
