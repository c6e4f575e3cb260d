/**
 * Counting tests in the output of `deno test` and `cargo test`.
 *
 * @module
 */
import { withoutColours } from "./process.ts";

/** `ok | 12 passed (3 steps) | 1 failed (2 steps) | 4 ignored (1s)` */
const DENO = /^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/;
/** `test result: ok. 17 passed; 0 failed; 0 ignored; …` */
const CARGO = /^test result: \w+\. (\d+) passed; (\d+) failed;/;

/** Sums up the closing lines of test runners. */
export class TestCount {
  passed = 0;
  failed = 0;
  #line = "";

  /** Takes output as it comes, in pieces of any size. */
  add(text: string): void {
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop() ?? "";
    for (const line of lines) this.#addLine(withoutColours(line).trim());
  }

  /** Adds what another counted. */
  addCount(other: TestCount): void {
    this.passed += other.passed;
    this.failed += other.failed;
  }

  #addLine(line: string): void {
    const match = DENO.exec(line) ?? CARGO.exec(line);
    if (!match) return;
    this.passed += Number(match[1]);
    this.failed += Number(match[2]);
  }
}
