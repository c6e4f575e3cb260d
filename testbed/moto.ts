/**
 * The EC2 API of the tests: moto's server, from PyPI, kept in the checkout's `.tools/`.
 *
 * @module
 */
import { must, ROOT } from "../tools/process.ts";

/** Ignored by git. */
const FOLDER = `${ROOT}/.tools`;

const MOTO = `${FOLDER}/moto`;
const REQUIREMENTS = `${ROOT}/testbed/requirements.txt`;
/** A copy of the requirements in the environment tells that all of them are installed. */
const INSTALLED = `${MOTO}/requirements.txt`;
/** Debian's, for which setup installs the venv module. */
const PYTHON = "/usr/bin/python3";

const LIMIT = 300;

/** Path of moto's server. */
export const MOTO_SERVER = `${MOTO}/bin/moto_server`;

/**
 * Installs it where it is missing or of another version.
 *
 * @throws {ToolError} in one line, where it cannot be had
 */
export async function installMoto(): Promise<void> {
  const wanted = await Deno.readTextFile(REQUIREMENTS);
  if (await Deno.readTextFile(INSTALLED).catch(() => "") === wanted) return;
  console.log("setup: installing moto");
  await Deno.remove(MOTO, { recursive: true }).catch(() => {});
  const step = "installing moto (testbed/requirements.txt)";
  await must(step, PYTHON, ["-m", "venv", MOTO], { limit: LIMIT, quiet: true });
  const install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  await must(step, `${MOTO}/bin/python3`, [...install, "--no-deps", "-r", REQUIREMENTS], {
    limit: LIMIT,
    quiet: true,
  });
  await Deno.writeTextFile(INSTALLED, wanted);
}
