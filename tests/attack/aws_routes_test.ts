/**
 * Routes in the overlay's network that are an operator's: whatever leases come and go, they stay.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  CreateNetworkInterfaceCommand,
  CreateVpcPeeringConnectionCommand,
  CreateVpnGatewayCommand,
} from "@aws-sdk/client-ec2";
import { leaseOf } from "../../testbed/aws_nodes.ts";
import { aws, foreignRoute, HOUR, MINUTE, World } from "../aws/world.ts";

/** A lease of this backend type, for `subnet`, by an appliance's address. */
function claim(subnet: string, ip: string, backendType: string) {
  const lease = leaseOf(subnet, ip);
  return { ...lease, attrs: { ...lease.attrs, backendType } };
}

for (const backendType of ["", "udp", "vxlan", "aws-vpc"]) {
  Deno.test(`an operator's route survives a lease of type ${backendType || "none"} that came and went`, async () => {
    await using world = await World.create();
    const appliance = await world.launch("172.31.28.90");
    const route = `10.1.90.0/24 ${appliance.eniId} active`;
    await foreignRoute(world.table, "10.1.90.0/24", { NetworkInterfaceId: appliance.eniId });
    await world.join(40);
    await world.join(41);
    await world.clock.pass(6 * MINUTE);
    const leases = [...world.leases];
    for (let round = 0; round < 2; round++) {
      world.setLeases([...leases, claim("10.1.90.0/24", appliance.ip, backendType)]);
      await world.clock.pass(6 * MINUTE);
      world.setLeases(leases);
      await world.clock.pass(MINUTE);
    }
    await world.clock.pass(HOUR);
    assert.equal((await world.routes())[2], route);
    assert.equal(world.calls().DeleteRoute, undefined);
  });
}

Deno.test("a lease of another type that was there first takes no operator's route along", async () => {
  await using world = await World.create();
  const appliance = await world.launch("172.31.28.90");
  await foreignRoute(world.table, "10.1.90.0/24", { NetworkInterfaceId: appliance.eniId });
  await foreignRoute(world.table, "10.1.91.0/25", { NetworkInterfaceId: appliance.eniId });
  world.setLeases([
    claim("10.1.90.0/24", appliance.ip, "udp"),
    claim("10.1.91.0/25", appliance.ip, "aws-vpc"),
  ]);
  await world.join(40);
  world.setLeases(world.leases.slice(2));
  await world.clock.pass(HOUR);
  assert.deepEqual((await world.routes()).slice(1), [
    `10.1.90.0/24 ${appliance.eniId} active`,
    `10.1.91.0/25 ${appliance.eniId} active`,
  ]);
});

/** Things that a route may lead to: appliances' network interfaces, and what is none. */
async function targets(world: World) {
  const { client } = aws;
  const stopped = await world.launch("172.31.28.91");
  const gone = await world.launch("172.31.28.92");
  const { NetworkInterface: eni } = await client.send(
    new CreateNetworkInterfaceCommand({ SubnetId: world.subnet.subnetId }),
  );
  const other = await aws.createVpc("172.20.0.0/16");
  const { VpcPeeringConnection: peering } = await client.send(
    new CreateVpcPeeringConnectionCommand({ VpcId: world.vpc.vpcId, PeerVpcId: other.vpcId }),
  );
  const { VpnGateway: vpn } = await client.send(new CreateVpnGatewayCommand({ Type: "ipsec.1" }));
  return {
    stopped,
    gone,
    detached: { NetworkInterfaceId: eni!.NetworkInterfaceId! },
    peering: { VpcPeeringConnectionId: peering!.VpcPeeringConnectionId! },
    vpn: { GatewayId: vpn!.VpnGatewayId! },
  };
}

Deno.test("black holes that no node can have left stay, from the first look on", async () => {
  await using world = await World.create();
  const { stopped, gone, peering, vpn } = await targets(world);
  for (
    const [destination, target] of [
      ["10.1.91.0/24", { NetworkInterfaceId: stopped.eniId }],
      ["10.1.92.0/25", { NetworkInterfaceId: gone.eniId }],
      ["10.1.94.0/24", peering],
      ["10.1.95.0/24", vpn],
      ["10.1.96.0/20", { NetworkInterfaceId: gone.eniId }],
    ] as const
  ) {
    await foreignRoute(world.table, destination, target);
    aws.proxy.gone.add(Object.values(target)[0]);
  }
  await aws.terminate(gone);
  const before = await world.routes();
  for (const route of before) assert.match(route, / blackhole$/);
  const node = await world.join(40);
  const own = `10.1.40.0/24 ${node.instance.eniId} active`;
  await world.clock.pass(3 * HOUR);
  assert.deepEqual(await world.routes(), [own, ...before]);
  // A lease that comes later and names the appliance changes nothing.
  world.setLeases([...world.leases, claim("10.1.91.0/24", stopped.ip, "aws-vpc")]);
  await world.clock.pass(HOUR);
  world.setLeases([node.lease]);
  await world.clock.pass(HOUR);
  assert.deepEqual(await world.routes(), [own, ...before]);
});

Deno.test("an appliance's route that becomes a black hole later stays, stopped, detached or gone", async () => {
  await using world = await World.create();
  const { stopped, gone, detached } = await targets(world);
  for (
    const [destination, target] of [
      ["10.1.91.0/24", { NetworkInterfaceId: stopped.eniId }],
      ["10.1.92.0/24", { NetworkInterfaceId: gone.eniId }],
      ["10.1.93.0/24", detached],
    ] as const
  ) await foreignRoute(world.table, destination, target);
  await world.join(40);
  await world.clock.pass(10 * MINUTE);
  aws.proxy.gone.add(stopped.eniId);
  aws.proxy.gone.add(detached.NetworkInterfaceId);
  await aws.terminate(gone);
  await world.clock.pass(3 * HOUR);
  assert.deepEqual((await world.routes()).map((route) => route.replace(/ .* /, " ")).slice(1), [
    "10.1.91.0/24 blackhole",
    "10.1.92.0/24 blackhole",
    "10.1.93.0/24 blackhole",
  ]);
});

Deno.test("a stopped peer's black hole goes with its lease there, or just ended", async () => {
  await using world = await World.create();
  await world.join(1);
  for (const n of [2, 3]) {
    const peer = await world.join(n);
    await world.stop(peer);
    aws.proxy.gone.add(peer.instance.eniId);
  }
  world.setLeases(world.leases.slice(0, 2));
  await world.clock.pass(6 * MINUTE);
  assert.equal((await world.routes()).length, 1);
});

Deno.test("a route to a node's own network interface that an operator adds stays", async () => {
  await using world = await World.create();
  const { instance } = await world.join(40);
  await world.clock.pass(10 * MINUTE);
  await foreignRoute(world.table, "10.1.90.0/24", { NetworkInterfaceId: instance.eniId });
  await world.clock.pass(HOUR);
  assert.equal((await world.routes()).length, 2);
});
