import assert from "node:assert/strict";
import type { DelegateConf } from "./delegate.ts";
import { Store } from "./store.ts";

const CONF: DelegateConf = { type: "bridge", name: "net", ipam: { type: "host-local" } };

async function withStore(body: (store: Store) => void): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    body(new Store(`${folder}/data`));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("store: a config under its container's id, without what is ours", () =>
  withStore((store) => {
    store.save("abc", "eth0", true, CONF)();
    const file = `${store.dataDir}/abc`;
    assert.equal(Deno.statSync(file).mode! & 0o777, 0o600);
    assert.deepEqual(store.load("abc", "eth0"), {
      containerId: "abc",
      ifname: "eth0",
      own: true,
      conf: CONF,
      file,
    });
    assert.equal(store.load("abc", "net1"), undefined);
    assert.deepEqual([...Deno.readDirSync(store.dataDir)].map(({ name }) => name), ["abc"]);
  }));

Deno.test("store: two interfaces of a container are two attachments", () =>
  withStore((store) => {
    store.save("abc", "eth0", false, CONF);
    store.save("abc", "net1", false, { ...CONF, name: "other" });
    store.save("abc", "eth0", false, CONF);
    assert.equal(store.load("abc", "eth0")?.conf.name, "net");
    assert.equal(store.load("abc", "net1")?.conf.name, "other");
    assert.deepEqual(store.list("other").map(({ containerId }) => containerId), ["abc"]);
    store.remove(store.load("abc", "eth0")!);
    assert.equal(store.load("abc", "eth0"), undefined);
    assert.equal(store.load("abc", "net1")?.conf.name, "other");
  }));

Deno.test("store: what flannel's plugin saved is found, what is no config is not", () =>
  withStore((store) => {
    Deno.mkdirSync(store.dataDir);
    Deno.writeTextFileSync(`${store.dataDir}/old`, JSON.stringify(CONF));
    Deno.writeTextFileSync(`${store.dataDir}/half`, '{"type":');
    assert.deepEqual(store.load("old", "eth0")?.conf, CONF);
    assert.equal(store.load("old", "eth0")?.own, false);
    assert.equal(store.load("half", "eth0"), undefined);
    assert.equal(store.load("none", "eth0"), undefined);
    assert.deepEqual(store.list("net").map(({ containerId }) => containerId), ["old"]);
    assert.deepEqual(new Store(`${store.dataDir}/none`).list("net"), []);
  }));

Deno.test("store: broken files are told from missing ones, with what is left of their text", () =>
  withStore((store) => {
    const ipam = { type: "host-local" };
    const write = (name: string, text: string) =>
      Deno.writeTextFileSync(`${store.dataDir}/${name}`, text);
    store.save("good", "eth0", true, CONF);
    write("cut", '{"type":"bridge","name":"net","ipam":{},"flanneld":{"ifname":"eth0"');
    write("empty", "");
    write("empty:net1", " ");
    for (
      const [index, conf] of [
        null,
        [],
        { ...CONF, type: "../x" },
        { ...CONF, type: "flannel" },
        { ...CONF, name: "../x" },
        { ...CONF, ipam: {} },
        { name: "net", ipam },
      ].entries()
    ) write(`bad${index}`, JSON.stringify(conf));
    Deno.mkdirSync(`${store.dataDir}/folder`);

    assert.equal(store.broken("good", "eth0"), undefined);
    assert.equal(store.broken("none", "eth0"), undefined);
    assert.deepEqual(store.broken("cut", "eth0"), {
      containerId: "cut",
      ifname: "eth0",
      network: "net",
      file: `${store.dataDir}/cut`,
      reason: "it is not JSON",
    });
    assert.equal(store.broken("cut", "net1"), undefined, "another interface's");
    assert.equal(store.broken("empty", "eth0")?.reason, "it is empty");
    assert.match(store.broken("folder", "eth0")?.reason ?? "", /^it cannot be read: /);
    for (let index = 0; index < 7; index++) {
      assert.match(store.broken(`bad${index}`, "eth0")?.reason ?? "", /not a delegate config/);
    }
    assert.deepEqual(store.list("net").map(({ containerId }) => containerId), ["good"]);
    const names = (network: string) =>
      store.listBroken(network).map(({ file }) => file.split("/").at(-1)).sort();
    assert.ok(names("net").includes("cut") && names("net").includes("empty:net1"));
    assert.ok(!names("other").includes("cut") && names("other").includes("empty"));
  }));
