import assert from "node:assert/strict";
import { checkBundle, dynamicImports } from "./bundle_check.ts";

Deno.test("what is taken from a dynamic import, in the forms that the bundler writes", () => {
  const cases: [source: string, from: string, names: string[]][] = [
    [`let{a:b,c}=await import("./x.js"),d=1;`, "x.js", ["a", "c"]],
    [`let{default:e,f=1,...g}=await import("./x.js");`, "x.js", ["default", "f"]],
    [`return(await import("./x.js")).run(1)`, "x.js", ["run"]],
    [`import("./x.js").then(({a:b})=>b())`, "x.js", ["a"]],
    [`import("./x.js").then(async({a:b})=>b())`, "x.js", ["a"]],
    [`import("./x.js").then(m=>m.a())`, "x.js", ["a"]],
    [`import("./x.js").then((m)=>new m.A)`, "x.js", ["A"]],
    [`({udp:()=>import("./x.js")})`, "x.js", []],
  ];
  for (const [source, from, names] of cases) {
    assert.deepEqual(dynamicImports(source), [{ from, names }], source);
  }
  assert.deepEqual(
    dynamicImports(
      `let[{a:b},{c}]=await Promise.all([import("./x.js"),import("./y.js")]);import("node:fs")`,
    ),
    [{ from: "x.js", names: ["a"] }, { from: "y.js", names: ["c"] }],
  );
});

Deno.test("a bundle that lacks something fails with its name", async () => {
  const cases: [modules: Record<string, string>, problem: RegExp | number][] = [
    [{ "main.js": `const{a,b}=await import("./x.js")`, "x.js": "export const a=1,b=2" }, 2],
    [
      // A CommonJS module as the bundler writes it.
      { "main.js": `async()=>{let{a:b}=await import("./x.js")}`, "x.js": "export default{a:1}" },
      /main\.js imports x\.js, which does not export a$/,
    ],
    [
      { "main.js": `()=>import("./x.js")`, "x.js": "export default{a:1}" },
      /main\.js imports x\.js, which exports only a default$/,
    ],
    [{ "main.js": `()=>import("./x.js")` }, /main\.js imports x\.js, which is not there$/],
    [
      { "main.js": `import{b}from"./x.js"`, "x.js": "export const a=1" },
      /main\.js cannot be loaded: .* export named 'b'/,
    ],
    [{ "main.js": "console.log(__dirname)" }, /main\.js cannot be loaded: __dirname/],
  ];
  for (const [modules, problem] of cases) {
    const folder = await Deno.makeTempDir({ prefix: "flanneld-bundle-" });
    try {
      for (const [name, source] of Object.entries(modules)) {
        await Deno.writeTextFile(`${folder}/${name}`, source);
      }
      if (typeof problem === "number") assert.equal(await checkBundle(folder), problem);
      else await assert.rejects(checkBundle(folder), { message: problem });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
});
