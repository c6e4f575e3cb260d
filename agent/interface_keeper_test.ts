import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import type { Interface } from "../dataplane/state.ts";
import { DELETED_PATIENCE, InterfaceKeeper, PATIENCE, START_PATIENCE } from "./interface_keeper.ts";
import type { Uplink } from "./lease_file.ts";
import type { InterfaceOptions } from "./options.ts";
import { address } from "./testing.ts";

function iface(name: string, index: number, ...ips: string[]): Interface {
  return {
    ...{ index, name, kind: "", mac: "02:00:00:00:00:01", mtu: 1500, up: true },
    ...{ loopback: false, pointToPoint: false, owned: false },
    addresses: ips.map((ip) => address(ip, 20)),
  };
}

/** What a node remembers across restarts. */
class Memory {
  #uplink: Uplink | undefined;
  recallUplink = () => this.#uplink;
  keepUplink = (uplink: Uplink | undefined) => this.#uplink = uplink;
}

/** A dual-homed node whose clock and kernel the test moves. */
class Node {
  interfaces = [iface("wb", 2, "172.31.16.86"), iface("eth9", 3, "10.9.0.5")];
  routes = ["wb", "eth9"];
  #time = 0;
  readonly keeper: InterfaceKeeper;

  constructor(
    options: Partial<InterfaceOptions> = {},
    signal = new AbortController().signal,
    readonly memory = new Memory(),
  ) {
    const source = {
      interfaces: () => Promise.resolve(this.interfaces),
      defaultRoutes: () =>
        Promise.resolve(
          this.routes.map((dev) => ({ ipv6: false, dev, metric: 0, linkDown: false })),
        ),
      routeTo: () => Promise.resolve(undefined),
    };
    const all = { iface: [], ifaceRegex: [], ...options };
    const families = { ipv4: true, ipv6: false };
    this.keeper = new InterfaceKeeper(all, families, source, signal, this.memory, () => this.#time);
  }

  /** The answer after some time. */
  async after(ms: number): Promise<string> {
    this.#time += ms;
    const { name, ip } = await this.keeper.next();
    return `${name} ${ip}`;
  }

  /** Whether the keeper waits for a while, which {@linkcode Node.after} ends. */
  async waits(): Promise<Promise<string>[]> {
    const answer = this.after(0);
    const early = await Promise.race([answer, delay(50)]);
    assert.equal(early, undefined, "it waits");
    return [answer];
  }

  set(name: string, changed: Interface | undefined): void {
    this.interfaces = [
      ...this.interfaces.filter((each) => each.name !== name),
      ...(changed ? [changed] : []),
    ];
  }
}

const WB = "wb 172.31.16.86";
const ETH9 = "eth9 10.9.0.5";

Deno.test("a default route that comes back in time changes nothing", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.routes = ["eth9"];
  assert.equal(await node.after(1_000), WB);
  assert.equal(await node.after(PATIENCE - 1), WB);
  assert.ok(node.keeper.isUnsettled);
  node.routes = ["eth9", "wb"];
  assert.equal(await node.after(1_000), WB);
  assert.ok(!node.keeper.isUnsettled);
  node.routes = ["eth9"];
  assert.equal(await node.after(1_000), WB, "the next loss is a new one");
  assert.equal(await node.after(PATIENCE), ETH9);
  node.routes = ["wb", "eth9"];
  assert.equal(await node.after(PATIENCE * 2), ETH9, "and there it stays");
});

Deno.test("without another interface the one chosen stays for good", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.routes = [];
  assert.equal(await node.after(1_000), WB);
  assert.equal(await node.after(PATIENCE * 100), WB);
});

Deno.test("where all uplinks were lost, the first to come back is not taken at once", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.routes = [];
  assert.equal(await node.after(1_000), WB);
  assert.equal(await node.after(PATIENCE * 10), WB);
  assert.ok(!node.keeper.isUnsettled, "nothing to look out for");
  node.routes = ["eth9"];
  assert.equal(await node.after(1_000), WB);
  assert.equal(await node.after(PATIENCE - 1), WB);
  node.routes = [];
  assert.equal(await node.after(1_000), WB);
  node.routes = ["eth9"];
  assert.equal(await node.after(1_000), WB, "waited for from then on");
  assert.equal(await node.after(PATIENCE), ETH9);
});

Deno.test("better routes, other interfaces and addresses change nothing", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.routes = ["tun0", "eth9", "wb"];
  node.set("tun0", iface("tun0", 9, "10.8.0.2"));
  node.set("wb", iface("wb", 2, "172.31.16.100", "172.31.16.86"));
  assert.equal(await node.after(PATIENCE * 2), WB);
});

Deno.test("an interface made again under its name, or renamed, is the same", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.set("wb", iface("wb", 17, "172.31.16.86"));
  assert.equal(await node.after(PATIENCE), WB);
  node.interfaces = [iface("uplink0", 17, "172.31.16.86"), iface("eth9", 3, "10.9.0.5")];
  node.routes = ["eth9", "uplink0"];
  assert.equal(await node.after(PATIENCE), "uplink0 172.31.16.86");
});

Deno.test("a deleted interface is replaced, though not at once", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.set("wb", undefined);
  node.routes = ["eth9"];
  const [answer] = await node.waits();
  assert.equal(await node.after(DELETED_PATIENCE), ETH9);
  assert.equal(await answer, ETH9);
});

Deno.test("an address that moves to another interface is followed at once", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.set("wb", iface("wb", 2));
  node.set("br0", iface("br0", 8, "172.31.16.86"));
  node.routes = ["br0", "eth9"];
  assert.equal(await node.after(0), "br0 172.31.16.86");
  node.set("br0", iface("br0", 8, "172.31.16.99"));
  node.set("bond0", iface("bond0", 9, "172.31.16.86"));
  node.routes = ["bond0"];
  assert.equal(await node.after(0), "bond0 172.31.16.86", "even where another address is left");
});

Deno.test("another address of the same interface is followed at once", async () => {
  const node = new Node();
  assert.equal(await node.after(0), WB);
  node.set("wb", iface("wb", 2, "172.31.17.99"));
  node.routes = ["eth9"];
  assert.equal(await node.after(0), "wb 172.31.17.99", "without a default route, too");
});

Deno.test("an address named by --iface is looked for, not another one", async () => {
  const node = new Node({ iface: ["172.31.16.86"] });
  assert.equal(await node.after(0), WB);
  node.set("wb", iface("wb", 2, "172.31.17.99"));
  const [answer] = await node.waits();
  node.set("br0", iface("br0", 8, "172.31.16.86"));
  assert.equal(await answer, "br0 172.31.16.86");
});

Deno.test("one named by --iface needs no default route", async () => {
  const node = new Node({ iface: ["wb", "eth9"] });
  assert.equal(await node.after(0), WB);
  node.routes = ["eth9"];
  assert.equal(await node.after(PATIENCE * 2), WB);
  assert.ok(!node.keeper.isUnsettled);
  node.set("wb", iface("wb", 2));
  const [answer] = await node.waits();
  assert.equal(await node.after(PATIENCE), ETH9, "the next of the list");
  await answer;
});

/** A node that has chosen `wb`, restarted. */
async function restarted(options: Partial<InterfaceOptions> = {}): Promise<Node> {
  const before = new Node();
  assert.equal(await before.after(0), WB);
  return new Node(options, undefined, before.memory);
}

Deno.test("a restart while the uplink has no default route stays with it, as without the restart", async () => {
  const node = await restarted();
  node.routes = ["eth9"];
  assert.equal(await node.after(0), WB);
  assert.equal(await node.after(1_000), WB);
  assert.ok(node.keeper.isUnsettled);
  assert.equal(await node.after(PATIENCE), ETH9);
});

Deno.test("a restart while no interface has a default route says so at once", async () => {
  const node = await restarted();
  node.routes = [];
  await assert.rejects(node.after(0), /no interface has a default route/);
});

Deno.test("a restart while the uplink is gone waits for it, for a short time", async () => {
  const gone = await restarted();
  gone.set("wb", undefined);
  gone.routes = ["eth9"];
  const [late] = await gone.waits();
  gone.after(START_PATIENCE).catch(() => {});
  assert.equal(await late, ETH9);

  const back = await restarted();
  back.set("wb", iface("wb", 2));
  back.routes = ["eth9"];
  const [early] = await back.waits();
  back.set("wb", iface("wb", 2, "172.31.16.86"));
  assert.equal(await early, WB);
});

Deno.test("a restart chooses afresh where a better route or an option says so", async () => {
  const better = await restarted();
  better.routes = ["eth9", "wb"];
  assert.equal(await better.after(0), ETH9);
  const option = await restarted({ iface: ["eth9"] });
  option.routes = ["eth9"];
  assert.equal(await option.after(0), ETH9);
});
