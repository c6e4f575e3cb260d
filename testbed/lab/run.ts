/**
 * The lab from its first line to its last.
 *
 * @module
 */
import * as agents from "./agents.ts";
import { Cloud } from "./cloud.ts";
import { type Facts, noFacts } from "./facts.ts";
import { type BackendName, Place, type PlaceOptions } from "./place.ts";
import { pod } from "./pod.ts";
import { type Done, doStep, type Entry } from "./step.ts";
import * as traffic from "./traffic.ts";

/** Who is told how the lab goes. */
export interface Audience {
  chapter(title: string): void;
  done(step: Done): void;
  /** After the last step; the lab stays as it is until this settles. */
  end?(place: Place): Promise<void>;
}

/** All steps in order; each may need what the checks of those before have learnt. */
export function* labSteps(facts: Facts): Generator<Entry> {
  yield* agents.before();
  yield* agents.etcd();
  yield* agents.configure(facts);
  yield* agents.startFlanneld("nodea", facts);
  yield* agents.routeTable("nodea", facts);
  yield* agents.configureDocker("nodea", facts);
  yield* agents.copyBinary();
  yield* agents.startFlanneld("nodeb", facts);
  yield* agents.routeTable("nodeb", facts);
  yield* agents.configureDocker("nodeb", facts);
  yield* traffic.investigate(facts);
  yield* traffic.doctor(facts);
  yield* traffic.pings(facts);
  yield* traffic.chat(facts);
  yield* traffic.web(facts);
  yield* pod(facts);
}

/**
 * Holds the lab. Everything it made is removed when it settles.
 *
 * @throws {StepError} of the first step that did not do what it should
 * @throws the signal's reason when it aborts before the end
 */
export async function holdLab(
  backend: BackendName,
  options: PlaceOptions,
  audience: Audience,
  signal?: AbortSignal,
): Promise<void> {
  await using place = await Place.create(options);
  // The step that runs fails at once where there is nothing left to run in.
  const stop = () => void place[Symbol.asyncDispose]();
  signal?.addEventListener("abort", stop, { once: true });
  try {
    signal?.throwIfAborted();
    const cloud = backend === "aws-vpc" ? place.keep(await Cloud.start(place)) : undefined;
    await cloud?.instruct();
    const facts = noFacts(backend, cloud);
    for (const entry of labSteps(facts)) {
      signal?.throwIfAborted();
      if ("chapter" in entry) audience.chapter(entry.chapter);
      else audience.done(await doStep(entry, place.nodes));
    }
    await audience.end?.(place);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}
