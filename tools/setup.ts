/**
 * Makes a Debian machine ready to build and test: Debian's packages, the npm packages, the Rust
 * parts. Does nothing where all is there, and starts no service. `deno task setup`; `deno task dev`
 * sets up only what it needs.
 *
 * @module
 */
import { hasGo, installGoPrograms } from "../testbed/go_tools.ts";
import { buildLibrary } from "./lib.ts";
import { installMoto } from "../testbed/moto.ts";
import { exists, must, run, runTool, ToolError } from "./process.ts";

/** Debian's packages by what they are for. */
const PACKAGES = {
  build: ["gcc", "libc6-dev"],
  run: ["iptables", "nftables", "iproute2", "ca-certificates"],
  // Hosts of network namespaces, as `deno task dev` and the tests make them.
  hosts: ["etcd-server", "etcd-client", "iputils-ping", "procps"],
  test: [
    "faketime",
    "iperf3",
    "ethtool",
    "netcat-openbsd",
    "containernetworking-plugins",
    "python3-venv",
    "socat",
    "openssl",
    "strace",
    "systemd",
    "tcpdump",
    "zsh",
    "fish",
  ],
  lab: [
    "docker.io",
    "busybox-static",
    "curl",
    "inetutils-telnet",
    "sudo",
  ],
};

const APT_LIMIT = 600;
const POLICY = "/usr/sbin/policy-rc.d";
const POLICY_KEPT = `${POLICY}.kept-by-setup`;

/** What a machine is set up for: `deno task dev` alone, or all tasks. */
export type Purpose = "dev" | "all";

/** Debian's packages for a purpose, except Go. */
export function packagesFor(purpose: Purpose): string[] {
  const { build, run, hosts, test, lab } = PACKAGES;
  return purpose === "dev" ? [...build, ...run, ...hosts] : [build, run, hosts, test, lab].flat();
}

/**
 * Installs what is missing.
 *
 * @throws {ToolError} in one line, where something is missing and cannot be installed
 */
export async function setup(purpose: Purpose = "all"): Promise<void> {
  await installPackages(purpose);
  await must("installing the npm packages", Deno.execPath(), ["install", "--frozen", "--quiet"], {
    limit: 300,
  });
  if (purpose === "all") {
    await installGoPrograms();
    await installMoto();
  }
  await buildLibrary();
}

async function installPackages(purpose: Purpose): Promise<void> {
  const wanted = packagesFor(purpose);
  // A machine's own Go may be newer than Debian's.
  if (purpose === "all" && !await hasGo()) wanted.push("golang-go");
  const missing = await missingPackages(wanted);
  if (missing.length === 0) return;
  const list = missing.join(" ");
  if (Deno.uid() !== 0) {
    throw new ToolError(`Debian packages are missing: as root: apt-get install ${list}`);
  }
  console.log(`setup: installing ${list}`);
  await withoutServices(async () => {
    const options = { limit: APT_LIMIT, quiet: true, env: { DEBIAN_FRONTEND: "noninteractive" } };
    await must("apt-get update", "apt-get", ["update"], options);
    const install = ["install", "--yes", "--no-install-recommends", ...missing];
    await must("apt-get install", "apt-get", install, options);
  });
}

async function missingPackages(names: readonly string[]): Promise<string[]> {
  let listed = "";
  try {
    await run("dpkg-query", ["-W", "-f=${Package} ${db:Status-Status}\\n", ...names], {
      limit: 60,
      quiet: true,
      onOutput: (text) => listed += text,
    });
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    throw new ToolError(
      `this is not a Debian machine: install what these packages have: ${names.join(" ")}`,
    );
  }
  const installed = new Set(
    listed.split("\n").filter((line) => line.endsWith(" installed")).map((line) =>
      line.split(" ")[0]
    ),
  );
  return names.filter((name) => !installed.has(name));
}

/**
 * Runs `install` while no package may start a service (Debian's policy-rc.d), and puts the
 * machine's own policy back, also one that an earlier run was ended before putting back.
 */
async function withoutServices(install: () => Promise<void>): Promise<void> {
  if (!exists(POLICY_KEPT) && exists(POLICY)) Deno.renameSync(POLICY, POLICY_KEPT);
  Deno.writeTextFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    await install();
  } finally {
    Deno.removeSync(POLICY);
    if (exists(POLICY_KEPT)) Deno.renameSync(POLICY_KEPT, POLICY);
  }
}

if (import.meta.main) {
  await runTool("setup", async () => {
    await setup();
    console.log("setup: ready");
  });
}
