/**
 * The log of code that runs in the test's own process.
 *
 * @module
 */
import { configureSync, resetSync } from "@logtape/logtape";
import { formatRecord } from "../cli/log.ts";

/** Gathers the log's lines, `W text`, until it is disposed of. */
export class LogCapture implements Disposable {
  readonly lines: string[] = [];

  constructor() {
    configureSync({
      reset: true,
      sinks: {
        lines: (record) => {
          this.lines.push(formatRecord(record).replace(/^(.).*?\] /, "$1 "));
        },
      },
      loggers: [
        { category: ["flanneld"], sinks: ["lines"], lowestLevel: "info" },
        { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "warning" },
      ],
    });
  }

  /** The lines that match. */
  matching(pattern: RegExp): string[] {
    return this.lines.filter((line) => pattern.test(line));
  }

  [Symbol.dispose](): void {
    resetSync();
  }
}
