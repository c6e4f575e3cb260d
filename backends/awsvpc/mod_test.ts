import assert from "node:assert/strict";
import { create, validate } from "./mod.ts";
import { input, lease, routeTo } from "../testing.ts";

Deno.test("RouteTableID is a string or an array of strings", () => {
  for (const id of ["rtb-6f23030a", ["rtb-6f23030a", "rtb-0123456789abcdef0"], "", null]) {
    validate(input({ Type: "aws-vpc", RouteTableID: id }).network);
  }
  const refused = [
    [7, /^Backend\.RouteTableID: 7 is not a string or an array of strings$/],
    [["rtb-1", 7], /^Backend\.RouteTableID: \["rtb-1",7\] is not/],
    ["main", /^Backend\.RouteTableID: "main" is not a route table's id like "rtb-6f23030a"$/],
  ] as const;
  for (const [id, message] of refused) {
    const { network } = input({ Type: "aws-vpc", routetableid: id });
    assert.throws(() => validate(network), { name: "ConfigError", message });
  }
});

Deno.test("MTU lowers the interface's MTU and never raises it", () => {
  const mtuOf = (option: unknown) => create(input({ Type: "aws-vpc", mtu: option })).mtu;
  assert.deepEqual([undefined, null, 0, 1400, 1500, 9001].map(mtuOf), [
    ...[1500, 1500, 1500, 1400, 1500, 1500],
  ]);
  for (
    const [option, message] of [
      [575, /^Backend\.MTU: 575 is too small: use 576 or more$/],
      ["1400", /^Backend\.MTU: "1400" is not a whole number/],
      [65_536, /^Backend\.MTU: 65536 is not a whole number from 0 to 65535$/],
    ] as const
  ) {
    const { network } = input({ Type: "aws-vpc", MTU: option });
    assert.throws(() => validate(network), { name: "ConfigError", message });
  }
});

Deno.test("the kernel needs nothing, the MTU is the interface's", () => {
  const backend = create(input({ Type: "aws-vpc", RouteTableID: "rtb-6f23030a" }));
  const flannel = lease("10.1.1.0/24", { publicIP: "192.0.2.11" });
  const other = lease("10.1.2.0/24", { publicIP: "192.0.2.12", backendType: "vxlan" });
  const { kernel, skipped } = backend.state(flannel, [flannel, other], routeTo);
  assert.deepEqual(kernel.routes, []);
  assert.deepEqual(skipped, [{
    key: "10.1.2.0-24",
    reason: `its backend is "vxlan", this node's is aws-vpc`,
  }]);
  assert.equal(backend.mtu, 1500);
  assert.equal(
    backend.summary,
    'Backend configured as: {"Type":"aws-vpc","RouteTableID":"rtb-6f23030a"}',
  );
});
