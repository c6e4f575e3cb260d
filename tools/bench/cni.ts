/**
 * The CNI plugin: from the execution of the binary under the plugin's name to that of its delegate,
 * files in the page cache.
 *
 * @module
 */
import { run } from "../../testbed/netns.ts";
import { type Contender, median, type Row, row } from "./lib.ts";

const ROUNDS = 15;

/** Seconds that are asked for. */
const GOAL = 0.15;

/** Tells when it was executed; what its shell takes to start counts as ours. */
const DELEGATE = `#!/bin/sh
date +%s.%N > "$0.time"
cat > /dev/null
echo '{"cniVersion":"1.0.0","ips":[]}'
`;

const SUBNET_FILE = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.40.1/24\n" +
  "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/** See the module. Go's plugin is another program, so there is no other contender. */
export async function cni(contenders: Contender[]): Promise<Row[]> {
  const binary = contenders.find(({ name }) => name === "ours")?.what ?? "";
  if (!binary.startsWith("/")) throw new Error("bench cni needs the packed binary: deno task pack");
  const folder = await Deno.makeTempDir({ prefix: "flanneld-bench-cni-" });
  try {
    await Deno.symlink(binary, `${folder}/flannel`);
    await Deno.writeTextFile(`${folder}/delegate`, DELEGATE, { mode: 0o755 });
    await Deno.writeTextFile(`${folder}/subnet.env`, SUBNET_FILE);
    const samples: number[] = [];
    // The first round warms the caches and is not counted.
    for (let round = 0; round <= ROUNDS; round++) {
      const seconds = await timeDelegate(folder, `bench${round}`);
      if (round > 0) samples.push(seconds);
    }
    const ours = { ours: samples };
    return [
      row("CNI: exec to its delegate's exec, median (s)", ours, median, GOAL),
      row("CNI: exec to its delegate's exec, fastest (s)", ours, (list) => Math.min(...list)),
      row("CNI: exec to its delegate's exec, slowest (s)", ours, (list) => Math.max(...list)),
    ];
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function timeDelegate(folder: string, containerId: string): Promise<number> {
  const config = {
    cniVersion: "1.0.0",
    name: "bench",
    type: "flannel",
    subnetFile: `${folder}/subnet.env`,
    dataDir: `${folder}/data`,
    delegate: { type: "delegate" },
  };
  await Deno.writeTextFile(`${folder}/config`, JSON.stringify(config));
  const started = performance.timeOrigin + performance.now();
  await run("sh", ["-c", `exec "${folder}/flannel" < "${folder}/config"`], {
    env: {
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: containerId,
      CNI_NETNS: "/run/netns/none",
      CNI_IFNAME: "eth0",
      CNI_PATH: folder,
      // Of its own: in the shared one another version may take its place meanwhile.
      FLANNELD_CACHE_DIR: `${folder}/cache`,
    },
  });
  return Number(await Deno.readTextFile(`${folder}/delegate.time`)) - started / 1000;
}
