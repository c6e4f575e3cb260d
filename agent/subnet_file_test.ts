import assert from "node:assert/strict";
import { join } from "node:path";
import { DUAL, input, lease } from "../backends/testing.ts";
import { previousSubnets, readSubnetFile, subnetFileText, writeSubnetFile } from "./subnet_file.ts";

Deno.test("flannel's keys in flannel's order", () => {
  const { network } = input({ Type: "vxlan" });
  assert.equal(
    subnetFileText(network, lease("10.1.40.0/24", {}), 9001, false),
    "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\nFLANNEL_MTU=9001\nFLANNEL_IPMASQ=false\n",
  );
});

Deno.test("both families; and what was written is read back as the previous subnets", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "run", "subnet.env");
    assert.equal(readSubnetFile(path), undefined);
    assert.deepEqual(previousSubnets(path), { subnet: null, ipv6Subnet: null });
    const { network } = input({ Type: "vxlan" }, DUAL);
    const text = subnetFileText(network, lease("10.1.40.0/24", {}, "fd00:1:0:28::/64"), 1430, true);
    await writeSubnetFile(path, text);
    assert.equal(
      await Deno.readTextFile(path),
      "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\n" +
        "FLANNEL_IPV6_NETWORK=fd00:1::/48\nFLANNEL_IPV6_SUBNET=fd00:1:0:28::1/64\n" +
        "FLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n",
    );
    const previous = previousSubnets(path);
    assert.deepEqual([`${previous.subnet}`, `${previous.ipv6Subnet}`], [
      "10.1.40.0/24",
      "fd00:1:0:28::/64",
    ]);
    assert.deepEqual([...Deno.readDirSync(join(folder, "run"))].map((entry) => entry.name), [
      "subnet.env",
    ], "no temporary file is left");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a file that is no subnet file gives no previous subnets", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, "FLANNEL_SUBNET=10.1.300.1/24\nrubbish\n=\n");
    assert.deepEqual(previousSubnets(path), { subnet: null, ipv6Subnet: null });
  } finally {
    await Deno.remove(path);
  }
});
