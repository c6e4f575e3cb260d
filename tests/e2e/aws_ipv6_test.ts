/** A network of IPv6 alone on instances that have no IPv4 address, nor their services. */
import assert from "node:assert/strict";
import { cloud } from "./aws_cloud.ts";

Deno.test("IPv6 alone: the metadata service, EC2 and the route table by IPv6", async () => {
  await using world = await cloud({
    label: "aws6",
    nodes: 2,
    families: "ipv6",
    changing: true,
  });
  const { aws, cluster, vpc, instances, env } = world;
  for (const { ns } of cluster.nodes) {
    assert.equal((await ns.run("ip", "-4", "address", "show", "scope", "global")).trim(), "");
  }
  // Without the setting it is asked over IPv4, as by all of AWS's SDKs.
  const [node] = cluster.nodes;
  const unset = node.startAgent({ env });
  await unset.waitForLine(
    /ENETUNREACH .* set AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6; retrying/,
  );
  unset.kill("SIGTERM");
  await unset.status;

  await cluster.startAgents({ env: { ...env, AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: "IPv6" } });
  const expected: { destination: string; target: string; state: string }[] = [];
  for (const [index, node] of cluster.nodes.entries()) {
    const file = await node.env();
    assert.deepEqual(Object.keys(file), [
      ...["FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET", "FLANNEL_MTU", "FLANNEL_IPMASQ"],
    ]);
    const destination = file.FLANNEL_IPV6_SUBNET.replace("::1/", "::/");
    expected.push({ destination, target: instances[index].eniId, state: "active" });
    assert.deepEqual(node.agent!.lines.filter((line) => !line.startsWith("I")), []);
    assert.equal(await aws.sourceDestCheck(instances[index]), false);
  }
  assert.deepEqual(
    await aws.routes(vpc.mainTableId),
    expected.sort((one, other) => one.destination < other.destination ? -1 : 1),
  );
});
