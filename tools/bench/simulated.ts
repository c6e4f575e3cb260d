/**
 * Nodes that exist only as leases in etcd.
 *
 * @module
 */

/** Where flannel keeps the leases. */
const SUBNETS = "/coreos.com/network/subnets/";

/** What a simulated node would announce. */
export interface Simulated {
  /** First address of its /24. */
  subnet: string;
  ip: string;
  /** Of its VTEP. */
  mac: string;
}

/**
 * The node with this number below 60,000; another address and MAC for each generation below 256, as of
 * a machine that was replaced.
 */
export function simulated(number: number, generation = 0): Simulated {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const mac = [0x02, 0xf1, generation].map((byte) => hex(byte, 2)).join(":");
  const second = 20 + generation % 8;
  return {
    subnet: `10.${16 + (number >> 8)}.${number & 255}.0`,
    ip: `172.${second}.${Math.floor(number / 250)}.${number % 250 + 1}`,
    mac: `${mac}:${hex(number, 6).match(/../g)!.join(":")}`,
  };
}

/** Key and value of its lease: of vxlan where no backend is named. */
export function leaseOf(
  { subnet, ip, mac }: Simulated,
  backend?: "udp",
): [key: string, value: string] {
  const data = { BackendType: "vxlan", BackendData: { VNI: 1, VtepMAC: mac } };
  return [
    `${SUBNETS}${subnet}-24`,
    JSON.stringify({ PublicIP: ip, PublicIPv6: null, ...(backend === "udp" ? {} : data) }),
  ];
}
