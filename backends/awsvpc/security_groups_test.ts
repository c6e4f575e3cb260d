import assert from "node:assert/strict";
import { Cidr } from "../../subnet/cidr.ts";
import { admission } from "./security_groups.ts";

const NETWORK = Cidr.parse("10.1.0.0/16");

Deno.test("rules admit a network by its range alone, all of it or certain protocols", () => {
  const all = { IpProtocol: "-1", IpRanges: [{ CidrIp: "10.0.0.0/8" }] };
  const web = { IpProtocol: "tcp", FromPort: 80, ToPort: 80, IpRanges: [{ CidrIp: "0.0.0.0/0" }] };
  const half = { IpProtocol: "-1", IpRanges: [{ CidrIp: "10.1.0.0/17" }] };
  const group = { IpProtocol: "-1", UserIdGroupPairs: [{ GroupId: "sg-1" }] };
  assert.equal(admission([web, all], NETWORK), "all");
  assert.equal(admission([web, half, group], NETWORK), "some");
  assert.equal(admission([half, group], NETWORK), "none");
  const six = { IpProtocol: "-1", Ipv6Ranges: [{ CidrIpv6: "::/0" }] };
  assert.equal(admission([six], NETWORK), "none");
  assert.equal(admission([six], Cidr.parse("fd00:1::/48")), "all");
});
