import assert from "node:assert/strict";
import { routeThroughGateway, variablesText } from "./docker_opts.ts";

const SUBNET = new Map([
  ["FLANNEL_SUBNET", "10.1.40.1/24"],
  ["FLANNEL_MTU", "1450"],
  ["FLANNEL_IPMASQ", "true"],
]);
const BOTH = { individual: true, combined: true, ipMasq: true, key: "DOCKER_OPTS" };

Deno.test("the text that mk-docker-opts.sh writes", () => {
  assert.equal(
    variablesText(SUBNET, BOTH, {}),
    `DOCKER_OPT_BIP="--bip=10.1.40.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=false"
DOCKER_OPT_MTU="--mtu=1450"
DOCKER_OPTS=" --bip=10.1.40.1/24 --ip-masq=false --mtu=1450"
`,
  );
  assert.equal(
    variablesText(SUBNET, { individual: false, combined: true, ipMasq: false, key: "K" }, {
      K: "-D",
    }),
    `K="-D  --bip=10.1.40.1/24 --mtu=1450"\n`,
  );
  const open = new Map(SUBNET).set("FLANNEL_IPMASQ", "false");
  assert.match(variablesText(open, BOTH, {}), /--ip-masq=true/);
});

Deno.test("a broken subnet file is refused", () => {
  const broken = new Map(SUBNET).set("FLANNEL_IPMASQ", "maybe");
  assert.throws(() => variablesText(broken, BOTH, {}), /FLANNEL_IPMASQ: "maybe"/);
});

Deno.test("a route of the subnet through a gateway is found, a direct one is none", () => {
  const table = (gateway: string) =>
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
    "eth0\t00000000\t0114A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
    `docker0\t0028010A\t${gateway}\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n`;
  assert.equal(routeThroughGateway("10.1.40.1/24", table("00000000")), undefined);
  assert.equal(
    routeThroughGateway("10.1.40.1/24", table("C61C1FAC")),
    "a route to 10.1.40.1/24 via 172.31.28.198 dev docker0",
  );
  assert.equal(routeThroughGateway("10.1.41.1/24", table("C61C1FAC")), undefined);
});
