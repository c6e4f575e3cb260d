/**
 * A process that has the data plane open and does what the lines on its standard input say, so that
 * a test can work on the kernel of a namespace. Its argument is the library's path.
 *
 * In: `{"call": "apply", "argument": …}`; out, in the order of the calls: `{"ok": …}` or
 * `{"error": "…"}`, and at any time `{"event": …}`.
 *
 * @module
 */
import { DataPlane, type KernelChange, type KernelState } from "../dataplane/mod.ts";

/** A line of the input. */
interface Call {
  call:
    | "apply"
    | "change"
    | "interfaces"
    | "defaultRoutes"
    | "routeTo"
    | "gatewayTo"
    | "watchPacketFilter"
    | "cleanup";
  argument?: unknown;
}

using dataplane = DataPlane.open(Deno.args[0]);
const events = (async () => {
  for await (const event of dataplane.events()) tell({ event });
})();
tell({ ok: "open" });
for await (const line of lines()) {
  try {
    tell({ ok: await answer(JSON.parse(line) as Call) ?? null });
  } catch (error) {
    tell({ error: error instanceof Error ? error.message : String(error) });
  }
}
dataplane.close();
await events;

function answer({ call, argument }: Call): Promise<unknown> {
  switch (call) {
    case "apply":
      return dataplane.apply(argument as KernelState);
    case "change":
      return dataplane.change(argument as KernelChange);
    case "interfaces":
      return dataplane.interfaces();
    case "defaultRoutes":
      return dataplane.defaultRoutes();
    case "routeTo":
      return dataplane.routeTo(argument as string);
    case "gatewayTo":
      return dataplane.gatewayTo(argument as string);
    case "watchPacketFilter":
      return Promise.resolve(dataplane.watchPacketFilter(argument as number));
    case "cleanup":
      return dataplane.cleanup();
  }
}

function tell(message: unknown): void {
  console.log(JSON.stringify(message));
}

async function* lines(): AsyncGenerator<string> {
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}
