import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { waitFor } from "../testbed/netns.ts";
import type { HeldLease } from "../subnet/types.ts";
import { LeaseFile, leaseFileOf } from "./lease_file.ts";

const HELD: HeldLease = {
  cluster: "14841639068965178418",
  prefix: "/coreos.com/network",
  key: "10.1.34.0-24",
  leaseId: "7587890123456789012",
  created: "42",
};

/** A folder, and what is logged meanwhile. */
class Place implements AsyncDisposable {
  readonly lines: string[] = [];
  private constructor(readonly folder: string) {}

  static async make(): Promise<Place> {
    const place = new Place(await Deno.makeTempDir());
    const sink = ({ level, message }: LogRecord) => {
      place.lines.push(`${level} ${message.join("")}`);
    };
    await configure({
      reset: true,
      sinks: { list: sink },
      loggers: [{ category: "flanneld", lowestLevel: "info", sinks: ["list"] }, {
        category: ["logtape", "meta"],
        lowestLevel: "error",
        sinks: ["list"],
      }],
    });
    return place;
  }

  get path(): string {
    return leaseFileOf(`${this.folder}/run/subnet.env`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await reset();
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function has(path: string, text: string): Promise<boolean> {
  return await Deno.readTextFile(path).then((found) => found.includes(text), () => false);
}

Deno.test("what is kept is recalled; the file is the agent's alone and written whole", async () => {
  await using place = await Place.make();
  const file = new LeaseFile(place.path);
  assert.equal(file.recall(), undefined);
  file.keep(HELD);
  file.keep({ ...HELD, created: "43" });
  const last = { ...HELD, leaseId: "0", revision: "99" };
  file.keep(last);
  await waitFor(() => has(place.path, '"99"'));
  assert.deepEqual(new LeaseFile(place.path).recall(), { ...last });
  assert.equal((await Deno.stat(place.path)).mode! & 0o777, 0o600);
  const names = [...Deno.readDirSync(`${place.folder}/run`)].map(({ name }) => name);
  assert.deepEqual(names, ["subnet.env.lease"]);
  assert.deepEqual(place.lines, []);
});

Deno.test("uplink and subnet file are kept with the lease, and not without one", async () => {
  await using place = await Place.make();
  const uplink = { name: "eth0", ip: "192.0.2.1", ipv6: null, byRoute: "ipv4" as const };
  const file = new LeaseFile(place.path);
  file.keepUplink(uplink);
  file.keepSubnetFile("7 8 9");
  await new Promise((done) => setTimeout(done, 20));
  await assert.rejects(Deno.stat(place.path), Deno.errors.NotFound);
  file.keep(HELD);
  await waitFor(() => has(place.path, HELD.created));
  const again = new LeaseFile(place.path);
  assert.deepEqual(again.recall(), HELD);
  assert.deepEqual(again.recallUplink(), uplink);
  assert.equal(again.recallSubnetFile(), "7 8 9");
  again.keep({ ...HELD, created: "43" });
  again.keepUplink(undefined);
  await waitFor(() => has(place.path, '"43"'));
  await waitFor(async () => !await has(place.path, "eth0"));
  assert.equal(new LeaseFile(place.path).recallSubnetFile(), "7 8 9");
});

Deno.test("garbage is ignored with one warning that says why", async () => {
  await using place = await Place.make();
  await Deno.mkdir(`${place.folder}/run`);
  const good = { version: 1, ...HELD };
  const cases: [string, RegExp][] = [
    ["", /it is not JSON/],
    ["\x00\xff", /it is not JSON/],
    ["[]", /it is not a JSON object/],
    ["{}", /its version is not 1/],
    [JSON.stringify({ ...good, version: 2 }), /its version is not 1/],
    [JSON.stringify({ ...good, leaseId: 7 }), /its leaseId is not a number/],
    [JSON.stringify({ ...good, leaseId: "7x" }), /its leaseId is not a number/],
    [JSON.stringify({ ...good, created: "1".repeat(21) }), /its created is not a number/],
    [JSON.stringify({ ...good, key: "" }), /its key is not a string/],
    [JSON.stringify({ ...good, revision: null }), /its revision is not a number/],
    [JSON.stringify({ ...good, uplink: "eth0" }), /its uplink has no family/],
    [JSON.stringify({ ...good, uplink: { byRoute: "ipv4" } }), /its uplink's name is not a string/],
    [JSON.stringify({ ...good, subnetFile: 7 }), /its subnetFile is not a string/],
    [`{"key":${"[".repeat(1_000)}${"]".repeat(1_000)}}`, /it is nested/],
    [" ".repeat(5_000), /it has 5000 bytes/],
  ];
  for (const [text, reason] of cases) {
    place.lines.length = 0;
    await Deno.writeTextFile(place.path, text);
    assert.equal(new LeaseFile(place.path).recall(), undefined);
    assert.equal(place.lines.length, 1);
    assert.match(place.lines[0], /^warning Ignoring the lease file .*subnet\.env\.lease: /);
    assert.match(place.lines[0], reason);
  }
  await Deno.remove(place.path);
  // Neither waits for a writer, nor reads what it has no business with.
  await new Deno.Command("mkfifo", { args: [place.path] }).output();
  assert.equal(new LeaseFile(place.path).recall(), undefined);
  await Deno.remove(place.path);
  await Deno.symlink("/dev/zero", place.path);
  assert.equal(new LeaseFile(place.path).recall(), undefined);
  assert.match(place.lines.at(-1)!, /it is not a regular file/);
});

Deno.test("a file that cannot be written is logged once", async () => {
  await using place = await Place.make();
  await Deno.writeTextFile(`${place.folder}/run`, "in the way");
  const file = new LeaseFile(place.path);
  for (const created of ["1", "2", "3"]) {
    file.keep({ ...HELD, created });
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.equal(place.lines.length, 1);
  assert.match(place.lines[0], /^warning Cannot write the lease file .*another subnet$/);
});
