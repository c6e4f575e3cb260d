import assert from "node:assert/strict";

/** Narrows to a backend in a process of its own, and prints which files it may still read. */
const PROBE = `
  const { narrowToBackend } = await import(${
  JSON.stringify(import.meta.resolve("./permissions.ts"))
});
  const [backend, ...paths] = Deno.args;
  narrowToBackend(backend, ["/etc/flannel/../flannel/ca.pem"]);
  const readable = paths.filter((path) =>
    Deno.permissions.querySync({ name: "read", path }).state === "granted"
  );
  const env = Deno.permissions.querySync({ name: "env", variable: "AWS_PROFILE" }).state;
  console.log(JSON.stringify({ readable, env }));
`;

const VARIABLES = {
  HOME: "/home/u",
  AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: "/run/pod/token",
  AWS_SHARED_CREDENTIALS_FILE: "~/keys",
  AWS_CA_BUNDLE: "/etc/flannel/ca.pem",
};
const FILES = ["/home/u/.aws", "/run/pod/token", "/home/u/keys", "/etc/flannel/ca.pem"];

async function narrowed(backend: string): Promise<{ readable: string[]; env: string }> {
  const { PATH = "", DENO_DIR, HOME = "" } = Deno.env.toObject();
  const output = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--quiet", "--ext=ts", `--allow-read=${FILES.join(",")}`],
      ...[
        "--allow-env=AWS_*,HOME,SSL_CERT_FILE,SSL_CERT_DIR",
        `--config=${new URL("../deno.json", import.meta.url).pathname}`,
      ],
      `data:application/typescript,${encodeURIComponent(PROBE)}`,
      ...[backend, ...FILES],
    ],
    clearEnv: true,
    env: { PATH, DENO_DIR: DENO_DIR ?? `${HOME}/.cache/deno`, ...VARIABLES },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.equal(output.code, 0, text(output.stderr));
  return JSON.parse(text(output.stdout));
}

Deno.test("other backends give up what aws-vpc reads, but for what flags name, too", async () => {
  assert.deepEqual(await narrowed("aws-vpc"), { readable: FILES, env: "granted" });
  assert.deepEqual(await narrowed("vxlan"), {
    readable: ["/etc/flannel/ca.pem"],
    env: "prompt",
  });
});
