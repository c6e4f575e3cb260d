import assert from "node:assert/strict";
import { variablesText } from "./docker_opts.ts";

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
