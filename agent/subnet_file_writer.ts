/**
 * Writes the subnet file, for which container runtimes wait: again and again where the disk is full or
 * read-only.
 *
 * @module
 */
import { getLogger } from "@logtape/logtape";
import { sleep } from "../base/time.ts";
import { type LeaseFile, stampOf } from "./lease_file.ts";
import type { Status } from "./status.ts";
import { writeSubnetFile } from "./subnet_file.ts";

const log = getLogger(["flanneld", "agent"]);

/** Milliseconds before another attempt. */
const RETRY = 2_000;

/** See the module. */
export class SubnetFileWriter {
  readonly #path: string;
  readonly #leaseFile: Pick<LeaseFile, "keepSubnetFile">;
  readonly #status: Pick<Status, "ready" | "subnetFileProblem">;

  constructor(
    path: string,
    leaseFile: Pick<LeaseFile, "keepSubnetFile">,
    status: Pick<Status, "ready" | "subnetFileProblem">,
  ) {
    this.#path = path;
    this.#leaseFile = leaseFile;
    this.#status = status;
  }

  /** Resolves after the first attempt; others follow until one succeeds or `signal` aborts. */
  async write(text: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#attempt(text);
    } catch (error) {
      this.#status.subnetFileProblem = `cannot write the subnet file ${this.#path}: ${error}`;
      log.error("Cannot write the subnet file {subnetFile}: {error}; retrying until it works", {
        subnetFile: this.#path,
        error: String(error),
      });
      this.#retry(text, signal).catch(() => {});
    }
  }

  async #attempt(text: string): Promise<void> {
    await writeSubnetFile(this.#path, text);
    log.info("Wrote subnet file to {subnetFile}", { subnetFile: this.#path });
    this.#leaseFile.keepSubnetFile(stampOf(this.#path));
    this.#status.ready = true;
    this.#status.subnetFileProblem = "";
  }

  /** @throws the signal's reason when it aborts */
  async #retry(text: string, signal: AbortSignal): Promise<void> {
    while (true) {
      await sleep(RETRY, signal);
      try {
        return await this.#attempt(text);
      } catch {
        // The first failure was logged.
      }
    }
  }
}
