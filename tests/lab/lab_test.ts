import assert from "node:assert/strict";
import { BINARY } from "../../tools/runtime.ts";
import { type Process, spawn, waitFor } from "../../testbed/netns.ts";
import { KEYS } from "../../testbed/terminal.ts";
import { type BackendName, BACKENDS, type Place } from "../../testbed/lab/place.ts";
import { holdLab } from "../../testbed/lab/run.ts";
import { traces } from "../../testbed/lab/traces.ts";

const MAIN = `${import.meta.dirname}/../../tools/lab/main.ts`;

/** Milliseconds for all that a lab does before its third part, on a busy machine. */
const LIMIT = 120_000;

/** The program is copied to the nodes as users have it: one file. */
const binary = Deno.env.get("FLANNELD_BIN") ?? BINARY;

/** A run of `deno task lab`, ended when the test is over. */
function lab(...args: string[]): Process {
  const env = { NO_COLOR: "1", FLANNELD_BIN: binary };
  return spawn(Deno.execPath(), ["run", "-A", MAIN, ...args], { env });
}

/**
 * Docker may set the policy of FORWARD to DROP at any time. With flanneld stopped, which else sets
 * it back, its rules alone have to let a packet through to a container that Docker has no rule for.
 */
async function dockersPolicy({ nodes: { nodea, nodeb } }: Place): Promise<void> {
  const flanneld = await nodeb.terminal("flanneld");
  await flanneld.type(KEYS.interrupt);
  assert.equal((await flanneld.prompt()).status, 0, flanneld.output);
  await nodeb.machine.run("iptables", "-P", "FORWARD", "DROP");
  const id = (await nodeb.machine.run("docker", "container", "run", "-d", "web")).trim();
  const format = "{{ .NetworkSettings.IPAddress }}";
  const ip = (await nodeb.machine.run("docker", "container", "inspect", "-f", format, id)).trim();
  await waitFor(() => nodea.machine.run("curl", "--silent", "--max-time", "2", ip), {
    limitMs: 20_000,
    what: `a page of ${ip}`,
  });
  await nodeb.machine.run("iptables", "-F", "FLANNEL-FWD");
  const without = await nodea.machine.exec("curl", "--silent", "--max-time", "1", ip);
  assert.notEqual(without.code, 0, "it is flanneld's rules that let it through");
}

for (const backend of BACKENDS) {
  Deno.test(`the lab with ${backend}, each step of it`, async () => {
    const label = `lab${Deno.pid}`;
    const chapters: string[] = [];
    await holdLab(backend, { label, binary }, {
      chapter: (title) => void chapters.push(title),
      done: () => {},
      end: (place) => backend === "udp" ? Promise.resolve() : dockersPolicy(place),
    });
    assert.equal(chapters.at(-1), "A pod");
    assert.deepEqual(await traces(label), []);
  });
}

Deno.test("the lab says which step failed, and leaves nothing behind", async () => {
  const label = `lab${Deno.pid}`;
  const held = holdLab("vxlan", { label, binary: "/usr/bin/false" }, {
    chapter: () => {},
    done: () => {},
  });
  await assert.rejects(held, /^Error: ubuntu@nodea:~\/flanneld\$ \.\/dist\/flanneld -version/);
  assert.deepEqual(await traces(label), []);
});

Deno.test("the lab ended amid containers leaves nothing behind", async () => {
  const backend: BackendName = "vxlan";
  await using run = lab("--backend", backend);
  await run.waitForLine(/telnet 10\./, LIMIT);
  assert.notDeepEqual(await traces(`lab${run.pid}`), []);
  run.kill("SIGINT");
  assert.equal((await run.status).code, 130, run.lines.join("\n"));
  assert.deepEqual(await traces(`lab${run.pid}`), []);
});

Deno.test("the lab removes what a killed run left", async () => {
  await using killed = lab("--backend=udp");
  await killed.waitForLine(/docker import/, LIMIT);
  killed.kill("SIGKILL");
  await killed.status;
  assert.notDeepEqual(await traces(`lab${killed.pid}`), []);
  await using run = lab("--backend=udp");
  await run.waitForLine(/Removed 3 network namespaces of a run that was killed/, LIMIT);
  await waitFor(async () => (await traces(`lab${killed.pid}`)).length === 0, {
    limitMs: 20_000,
    what: "the end of the killed run",
  });
  run.kill("SIGTERM");
  await run.status;
  assert.deepEqual(await traces(`lab${run.pid}`), []);
});

Deno.test("the lab refuses a bad flag in one line", async () => {
  await using run = lab("--backend=ipip");
  assert.equal((await run.status).code, 2);
  assert.equal(run.lines.length, 1);
  assert.match(run.lines[0], /--backend.*aws-vpc, vxlan, udp/);
});
