import assert from "node:assert/strict";
import { CODES } from "./errors.ts";
import { parseInvocation } from "./invocation.ts";
import { isAtLeast, requireVersion, versionResult } from "./versions.ts";

const ADD = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "abc",
  CNI_NETNS: "/run/netns/x",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/a::/b",
};

function parse(env: Record<string, string | undefined>) {
  return parseInvocation((name) => env[name]);
}

Deno.test("invocation: the variables of the specification", () => {
  assert.deepEqual(parse(ADD), {
    command: "ADD",
    containerId: "abc",
    netns: "/run/netns/x",
    ifname: "eth0",
    path: ["/a", "/b"],
    args: "",
  });
  assert.equal(parse({ ...ADD, CNI_COMMAND: "DEL", CNI_NETNS: undefined }).netns, "");
  assert.equal(parse({ CNI_COMMAND: "STATUS" }).containerId, "");
});

Deno.test("invocation: what is wrong is named under code 4", () => {
  const refused = (change: Record<string, string | undefined>, message: RegExp) =>
    assert.throws(() => parse({ ...ADD, ...change }), { code: CODES.invalidEnvironment, message });
  refused({ CNI_COMMAND: "add" }, /^CNI_COMMAND "add" is not known$/);
  refused({ CNI_NETNS: "", CNI_IFNAME: undefined }, /^ADD needs CNI_NETNS, CNI_IFNAME$/);
  refused({ CNI_CONTAINERID: "../x" }, /^CNI_CONTAINERID "\.\.\/x" is not a letter/);
  refused({ CNI_IFNAME: "a/b" }, /^CNI_IFNAME "a\/b" is not a device name/);
  for (const name of ["sixteen-bytes-xx", "a:b", "a b", "a\nb", "a\x01", "eth%d", ".", ".."]) {
    refused({ CNI_IFNAME: name }, /is not a device name/);
  }
  for (const id of ["a/b", "..", ".x", "a\n", "a\u0000b", "a b", "-x", "é"]) {
    refused({ CNI_CONTAINERID: id }, /is not a letter or digit followed by letters/);
  }
  refused(
    { CNI_CONTAINERID: "x".repeat(240) },
    /^CNI_CONTAINERID has 240 characters, more than 239$/,
  );
});

Deno.test("versions: those that are understood, and since when a command is there", () => {
  requireVersion("0.3.1", "ADD");
  requireVersion("1.1.0", "GC");
  const refused = (version: string, command: string, message: RegExp) =>
    assert.throws(() => requireVersion(version, command), {
      code: CODES.incompatibleVersion,
      message,
    });
  refused("", "ADD", /^cniVersion "0\.1\.0" is not supported$/);
  refused("2.0.0", "ADD", /^cniVersion "2\.0\.0" is not supported$/);
  refused("0.3.1", "CHECK", /^cniVersion 0\.3\.1 does not have CHECK$/);
  refused("1.0.0", "STATUS", /^cniVersion 1\.0\.0 does not have STATUS$/);
  assert.ok(isAtLeast("1.10.0", "1.9.0"));
  assert.ok(!isAtLeast("0.4.0", "1.0.0"));
  assert.deepEqual(versionResult("0.4.0"), {
    cniVersion: "0.4.0",
    supportedVersions: ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  });
});
