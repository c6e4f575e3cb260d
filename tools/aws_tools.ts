/**
 * What stands in for AWS in the tests, kept in the checkout's `.tools/`: moto's server, which is the
 * EC2 API, from PyPI, and AWS's own mock of the instance metadata service, built by Go.
 *
 * @module
 */
import { must, ROOT, run, ToolError } from "./process.ts";

/** Ignored by git. */
const FOLDER = `${ROOT}/.tools`;

const MOTO = `${FOLDER}/moto`;
const REQUIREMENTS = `${ROOT}/tests/requirements.txt`;
/** A copy of the requirements in the environment tells that all of them are installed. */
const INSTALLED = `${MOTO}/requirements.txt`;
/** Debian's, for which setup installs the venv module. */
const PYTHON = "/usr/bin/python3";

const METADATA_MODULE = "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock";
const METADATA_VERSION = "v1.13.0";
const METADATA_FOLDER = `${FOLDER}/ec2-metadata-mock-${METADATA_VERSION}`;

const PIP_LIMIT = 300;
const GO_LIMIT = 300;

/** Path of moto's server. */
export const MOTO_SERVER = `${MOTO}/bin/moto_server`;

/** Path of the metadata service. */
export const METADATA_MOCK = `${METADATA_FOLDER}/ec2-metadata-mock`;

/**
 * Installs both where they are missing or of another version.
 *
 * @throws {ToolError} in one line, where one cannot be had
 */
export async function installAwsTools(): Promise<void> {
  await installMoto();
  await installMetadataMock();
}

async function installMoto(): Promise<void> {
  const wanted = await Deno.readTextFile(REQUIREMENTS);
  if (await Deno.readTextFile(INSTALLED).catch(() => "") === wanted) return;
  console.log("setup: installing moto");
  await Deno.remove(MOTO, { recursive: true }).catch(() => {});
  const step = "installing moto (tests/requirements.txt)";
  await must(step, PYTHON, ["-m", "venv", MOTO], { limit: PIP_LIMIT, quiet: true });
  const install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  await must(step, `${MOTO}/bin/python3`, [...install, "--no-deps", "-r", REQUIREMENTS], {
    limit: PIP_LIMIT,
    quiet: true,
  });
  await Deno.writeTextFile(INSTALLED, wanted);
}

async function installMetadataMock(): Promise<void> {
  try {
    await Deno.lstat(METADATA_MOCK);
    return;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  if (!await hasGo()) {
    throw new ToolError("the instance metadata service's mock needs Go 1.21 or newer: install it");
  }
  console.log("setup: building the mock of the instance metadata service");
  await must(
    "building ec2-metadata-mock",
    "go",
    ["install", `${METADATA_MODULE}@${METADATA_VERSION}`],
    // An older Go fetches the one that the module asks for.
    { limit: GO_LIMIT, quiet: true, env: { GOBIN: METADATA_FOLDER, GOTOOLCHAIN: "auto" } },
  );
}

/** Whether `go` can be run. */
export async function hasGo(): Promise<boolean> {
  try {
    return (await run("go", ["version"], { limit: 60, quiet: true })).code === 0;
  } catch (error) {
    if (error instanceof ToolError) return false;
    throw error;
  }
}
