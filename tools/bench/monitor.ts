/**
 * Follows what changes in this namespace's tables, by the kernel's own notifications.
 *
 * @module
 */

/** Routes, neighbours and fdb entries as `ip monitor` tells them. */
export class Monitor implements Disposable {
  #child = new Deno.Command("ip", {
    args: ["-o", "monitor", "label", "route", "neigh"],
    stdout: "piped",
  }).spawn();
  #line: (line: string, at: number) => void = () => {};

  private constructor() {
    this.#read();
  }

  /** Starts one, and waits until it is seen to work. */
  static async start(): Promise<Monitor> {
    const monitor = new Monitor();
    await monitor.#waitAwake();
    return monitor;
  }

  /** Calls `line` with each line and the time at which it came, from now on. */
  follow(line: (line: string, at: number) => void): void {
    this.#line = line;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }

  /** Makes and removes a route until it shows. */
  async #waitAwake(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let awake = false;
    this.follow((line) => {
      if (!line.includes("198.51.100.0")) return;
      awake = true;
      resolve();
    });
    for (let attempt = 0; !awake && attempt < 50; attempt++) {
      for (const verb of ["add", "delete"]) {
        await new Deno.Command("ip", { args: ["route", verb, "blackhole", "198.51.100.0/24"] })
          .output();
      }
      await Promise.race([promise, new Promise((done) => setTimeout(done, 100))]);
    }
    if (!awake) throw new Error("ip monitor shows nothing");
  }

  async #read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      const at = performance.now();
      const lines = (rest + decoder.decode(chunk)).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#line(line, at);
    }
  }
}
