/**
 * Programs for the tests that Go builds, kept in the checkout's `.tools/`.
 *
 * @module
 */
import { canRun, exists, must, ROOT, ToolError } from "../tools/process.ts";

/** Ignored by git. */
const FOLDER = `${ROOT}/.tools`;

const LIMIT = 300;

/** A module at a version, and packages of it that are programs. */
interface GoPrograms {
  module: string;
  version: string;
  packages: string[];
}

/** A container runtime's side of CNI, and the plugin that its own tests call. */
const CNI: GoPrograms = {
  module: "github.com/containernetworking/cni",
  version: "v1.3.0",
  packages: ["cnitool", "plugins/test/noop"],
};

/** AWS's own mock of the instance metadata service. */
const METADATA: GoPrograms = {
  module: "github.com/aws/amazon-ec2-metadata-mock",
  version: "v1.13.0",
  packages: ["cmd/ec2-metadata-mock"],
};

const PROGRAMS = [CNI, METADATA];

/** Folder of the programs `cnitool` and `noop`. */
export const CNI_TOOLS = folderOf(CNI);

/** Path of the metadata service. */
export const METADATA_MOCK = `${folderOf(METADATA)}/ec2-metadata-mock`;

/** A folder a version, so that another one is built anew. */
function folderOf({ module, version }: GoPrograms): string {
  return `${FOLDER}/${module.replaceAll("/", "-")}-${version}`;
}

/**
 * Builds what is missing.
 *
 * @throws {ToolError} in one line, where one cannot be built
 */
export async function installGoPrograms(): Promise<void> {
  for (const programs of PROGRAMS) {
    const { module, version, packages } = programs;
    const folder = folderOf(programs);
    const missing = packages.filter((name) => !exists(`${folder}/${name.split("/").at(-1)}`));
    if (missing.length === 0) continue;
    if (!await hasGo()) throw new ToolError(`${module} needs Go 1.21 or newer: install it`);
    console.log(`setup: building ${missing.join(" and ")} of ${module}`);
    const install = ["install", ...missing.map((name) => `${module}/${name}@${version}`)];
    await must(`building ${module}`, "go", install, {
      limit: LIMIT,
      quiet: true,
      // An older Go fetches the one that a module asks for.
      env: { GOBIN: folder, GOTOOLCHAIN: "auto" },
    });
  }
}

/** Whether `go` can be run. */
export function hasGo(): Promise<boolean> {
  return canRun("go", "version");
}
