import assert from "node:assert/strict";
import { Cidr } from "../base/cidr.ts";
import type { DelegateConf } from "./delegate.ts";
import { CODES } from "./errors.ts";
import { nextFree, OwnIpam } from "./own_ipam.ts";

async function withIpam(
  subnets: string[],
  body: (ipam: OwnIpam, folder: string) => void | Promise<void>,
): Promise<void> {
  const dataDir = await Deno.makeTempDir();
  const ranges = subnets.map((subnet) => [{ subnet }]);
  const ipam = { type: "host-local", dataDir, ranges, routes: [{ dst: "10.1.0.0/16" }] };
  const conf: DelegateConf = { type: "bridge", name: "net", ipam };
  try {
    await body(new OwnIpam(conf), `${dataDir}/net`);
  } finally {
    await Deno.remove(dataDir, { recursive: true });
  }
}

function owner(containerId: string, ifname = "eth0") {
  return { containerId, ifname };
}

function addresses(ipam: OwnIpam, containerId: string): string[] {
  return ipam.add(owner(containerId)).ips.map(({ address }) => address);
}

Deno.test("own IPAM: one address a subnet, in host-local's files, given back by its owner", () =>
  withIpam(["10.1.2.0/24", "fd00:1::/64"], (ipam, folder) => {
    assert.deepEqual(ipam.add(owner("a")), {
      ips: [
        { address: "10.1.2.2/24", gateway: "10.1.2.1" },
        { address: "fd00:1::2/64", gateway: "fd00:1::1" },
      ],
      routes: [{ dst: "10.1.0.0/16" }],
      dns: {},
    });
    assert.equal(Deno.readTextFileSync(`${folder}/10.1.2.2`), "a\r\neth0");
    assert.equal(Deno.readTextFileSync(`${folder}/last_reserved_ip.1`), "fd00:1::2");
    assert.deepEqual(addresses(ipam, "b"), ["10.1.2.3/24", "fd00:1::3/64"]);
    ipam.remove(owner("a"));
    ipam.remove(owner("a"));
    // Round the range, so that an address rests before it is given again.
    assert.deepEqual(addresses(ipam, "c"), ["10.1.2.4/24", "fd00:1::4/64"]);
    ipam.check(owner("c"), { ips: [{ address: "10.1.2.4/24" }], routes: [], dns: {} });
    assert.throws(
      () => ipam.check(owner("c"), { ips: [{ address: "10.1.2.3/24" }], routes: [], dns: {} }),
      /10\.1\.2\.3 is not reserved for c eth0/,
    );
    assert.throws(() => ipam.add(owner("c")), /c eth0 already has the address /);
  }));

Deno.test("own IPAM: a full subnet says so and keeps nothing of the attempt", () =>
  withIpam(["fd00:1::/64", "10.1.2.0/29"], (ipam, folder) => {
    for (const id of ["a", "b", "c", "d"]) ipam.add(owner(id));
    ipam.status();
    ipam.add(owner("e"));
    const full = { code: CODES.notAvailable, message: "no free address left in 10.1.2.0/29" };
    assert.throws(() => ipam.add(owner("f")), full);
    assert.throws(() => ipam.status(), full);
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
    assert.equal(names.filter((name) => name.startsWith("fd00")).length, 5);
    ipam.collect([{ containerID: "b", ifname: "eth0" }]);
    assert.deepEqual(addresses(ipam, "g"), ["fd00:1::8/64", "10.1.2.2/29"]);
    assert.throws(() => ipam.add(owner("b")), /already/);
  }));

Deno.test("own IPAM: processes at once get addresses of their own", () =>
  withIpam(["10.1.2.0/24"], async (_ipam, folder) => {
    const module = new URL("./own_ipam.ts", import.meta.url).href;
    const dataDir = folder.replace(/\/net$/, "");
    const conf = {
      type: "bridge",
      name: "net",
      ipam: { type: "host-local", dataDir, ranges: [[{ subnet: "10.1.2.0/24" }]] },
    };
    const script = (id: number) =>
      `import { OwnIpam } from ${JSON.stringify(module)};` +
      `const ipam = new OwnIpam(${JSON.stringify(conf)});` +
      `for (let n = 0; n < 10; n++) ipam.add({ containerId: "p${id}-" + n, ifname: "eth0" });`;
    const runs = await Promise.all(
      [1, 2, 3].map((id) =>
        new Deno.Command(Deno.execPath(), { args: ["eval", "--no-check", script(id)] }).output()
      ),
    );
    for (const { success, stderr } of runs) assert.ok(success, new TextDecoder().decode(stderr));
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
    assert.equal(names.filter((name) => name.startsWith("10.")).length, 30);
  }));

Deno.test("own IPAM: what only host-local knows is refused", () => {
  const make = (ipam: Record<string, unknown>, more: Record<string, unknown> = {}, args = "") =>
    new OwnIpam(
      { type: "bridge", name: "net", ipam: { type: "host-local", ...ipam }, ...more },
      args,
    );
  const refused = { code: CODES.unsupportedField };
  assert.throws(() => make({ resolvConf: "/etc/resolv.conf" }), {
    ...refused,
    message: 'ipam.resolvConf "/etc/resolv.conf" is not supported by flanneld\'s own bridge',
  });
  assert.throws(() => make({}, { runtimeConfig: { ips: ["10.1.2.9"] } }), refused);
  assert.throws(() => make({}, {}, "IgnoreUnknown=1;IP=10.1.2.9"), {
    ...refused,
    message: 'CNI_ARGS IP "10.1.2.9" is not supported by flanneld\'s own bridge',
  });
});

Deno.test("own IPAM: the next address after the last, round the end", () => {
  const subnet = Cidr.parse("10.1.2.0/29");
  const next = (last: string | undefined, ...taken: string[]) =>
    nextFree(
      subnet,
      last === undefined ? undefined : BigInt(subnet.base) + BigInt(last.slice(1)),
      (ip) => taken.includes(ip),
    );
  assert.equal(next(undefined), "10.1.2.2");
  assert.equal(next(".2"), "10.1.2.3");
  assert.equal(next(".6"), "10.1.2.2");
  assert.equal(next(".5", "10.1.2.6"), "10.1.2.2");
  assert.equal(next(".0"), "10.1.2.2");
});
