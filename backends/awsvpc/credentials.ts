/**
 * AWS credentials for the SDK's clients, from the one way that is configured
 * ({@linkcode chooseWay}), by the SDK's own providers; only the one that is used is loaded.
 *
 * Those that end are renewed some minutes before. All others are read at each call, so that somebody
 * may exchange keys in a file while the program runs.
 *
 * @module
 */
import type { fromIni } from "@aws-sdk/credential-provider-ini";
import { getLogger } from "@logtape/logtape";
import { untilAborted } from "./abort.ts";
import type { Environment } from "./credentials_fault.ts";
import { providerFault } from "./credentials_provider_fault.ts";
import { chooseWay, type Way } from "./credentials_way.ts";
import { faultOf } from "./faults.ts";

const log = getLogger(["flanneld", "aws-vpc"]);

/** As the SDK's clients take it. */
type Provider = ReturnType<typeof fromIni>;
type Properties = Parameters<Provider>[0];
type Identity = Awaited<ReturnType<Provider>>;

/** Milliseconds before their end at which credentials are renewed, as in all of AWS's SDKs. */
const EARLY = 300_000;

/** Of what answers on the host itself. */
const LOCAL = { timeout: 2_000, maxRetries: 1 };

/** What the SDK's providers say of their own accord. */
const LOGGER = {
  debug: () => {},
  info: () => {},
  warn: (...content: unknown[]) => log.debug("{text}", { text: content.join(" ") }),
  error: (...content: unknown[]) => log.debug("{text}", { text: content.join(" ") }),
};

/** See the module. Clients share one, so that they share what it has fetched. */
export class Credentials {
  readonly #env: Environment;
  #held: Identity | undefined;
  #fetching: Promise<Identity> | undefined;
  #source = "";
  #warned = false;

  constructor(env: Environment = (name) => Deno.env.get(name)) {
    this.#env = env;
  }

  /**
   * The option `credentials` of a client. It throws `Ec2Fault`.
   *
   * @param signal ends the wait
   */
  provider(signal?: AbortSignal): Provider {
    const provider = async (properties?: Properties) => {
      if (!signal) return await this.#current(properties);
      const identity = await untilAborted(this.#current(properties), signal);
      signal.throwIfAborted();
      return identity!;
    };
    // By this mark the SDK does not keep what it got.
    return Object.assign(provider, { memoized: true });
  }

  /**
   * A client's middleware that fetches credentials anew after a call that was refused for their
   * sake, such as those of a role that the instance had before.
   */
  readonly forgetRefused =
    <Input, Output>(next: (input: Input) => Promise<Output>) =>
    async (input: Input): Promise<Output> => {
      try {
        return await next(input);
      } catch (error) {
        if (faultOf("", error).kind === "credentials") this.#held = undefined;
        throw error;
      }
    };

  async #current(properties: Properties): Promise<Identity> {
    const held = this.#held;
    if (held && left(held) > EARLY) return held;
    try {
      this.#fetching ??= this.#fetch(properties).finally(() => this.#fetching = undefined);
      this.#held = await this.#fetching;
      this.#warned = false;
      return this.#held;
    } catch (error) {
      if (!held || left(held) <= 0) throw error;
      if (!this.#warned) {
        log.warn("AWS credentials expire at {end} and cannot be renewed: {reason}", {
          end: held.expiration?.toISOString(),
          reason: error instanceof Error ? error.message : String(error),
        });
      }
      this.#warned = true;
      return held;
    }
  }

  async #fetch(properties: Properties): Promise<Identity> {
    const way = await chooseWay(this.#env);
    let identity: Identity;
    try {
      identity = await (await this.#providerOf(way))(properties);
    } catch (error) {
      throw providerFault(way, error, this.#env);
    }
    if (way.source !== this.#source) {
      log.info("AWS credentials come from {source}.", { source: way.source });
    }
    this.#source = way.source;
    return identity;
  }

  async #providerOf({ kind, profile }: Way): Promise<Provider> {
    switch (kind) {
      case "environment":
        return (await import("@aws-sdk/credential-provider-env")).fromEnv({ logger: LOGGER });
      case "profile": {
        const { fromIni } = await import("@aws-sdk/credential-provider-ini");
        return fromIni({ profile, ignoreCache: true, logger: LOGGER, ...LOCAL });
      }
      case "web identity": {
        const { fromTokenFile } = await import("@aws-sdk/credential-provider-web-identity");
        return fromTokenFile({ logger: LOGGER });
      }
      case "container":
        return (await import("@aws-sdk/credential-provider-http"))
          .fromHttp({ logger: LOGGER, ...LOCAL });
      case "instance": {
        const { fromInstanceMetadata } = await import("@smithy/credential-provider-imds");
        // A new one each time: after a refusal the SDK's asks for no token again, and once it has had
        // credentials it goes on giving them when they have expired.
        return fromInstanceMetadata({ logger: LOGGER, ...LOCAL });
      }
    }
  }
}

/** Where a client's credentials would come from. @throws {Ec2Fault} as {@linkcode chooseWay} */
export async function credentialsSource(): Promise<string> {
  return (await chooseWay((name) => Deno.env.get(name))).source;
}

/** Milliseconds that they are still good for; 0 for those whose end is not known. */
function left({ expiration }: Identity): number {
  return expiration ? expiration.getTime() - Date.now() : 0;
}
