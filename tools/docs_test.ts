/** The documents name files, sections and tasks that exist. */
import assert from "node:assert/strict";
import { exists } from "./process.ts";

const ROOT = new URL("../", import.meta.url);
const DOCUMENTS = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  ...[...Deno.readDirSync(new URL("docs/", ROOT))].map(({ name }) => `docs/${name}`)
    .filter((name) => name.endsWith(".md")),
];

/** Folders of sources whose files the documents name by their path from the top. */
const FOLDERS =
  "agent|backends|base|cli|cni|dataplane|dataplane-rs|deploy|doctor|docs|hostcheck|subnet|testbed|" +
  "tests|tools|traffic";

function read(document: string): string {
  return Deno.readTextFileSync(new URL(document, ROOT));
}

function found(path: URL): boolean {
  return exists(path.pathname);
}

/** The anchors of a document's headings, as code hosts make them. */
function anchors(text: string): Set<string> {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading);
  return new Set(
    headings.map((heading) =>
      heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
    ),
  );
}

Deno.test("files that the documents name exist", () => {
  const path = new RegExp(`\`((?:${FOLDERS})/[\\w./-]*[\\w/])\``, "g");
  let named = 0;
  for (const document of DOCUMENTS) {
    for (const [, name] of read(document).matchAll(path)) {
      if (name.startsWith("dataplane-rs/target") || name.includes("NAME")) continue;
      named++;
      assert.ok(found(new URL(name, ROOT)), `${document} names ${name}, which does not exist`);
    }
  }
  assert.ok(named > 60, `${named} files`);
});

Deno.test("links between the documents lead to files and sections", () => {
  for (const document of DOCUMENTS) {
    const text = read(document);
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file, anchor] = target.split("#");
      const url = file === "" ? new URL(document, ROOT) : new URL(file, new URL(document, ROOT));
      assert.ok(found(url), `${document} links to ${target}, which does not exist`);
      if (anchor === undefined) continue;
      const there = anchors(Deno.readTextFileSync(url));
      assert.ok(there.has(anchor), `${document} links to ${target}, which has no such section`);
    }
  }
});

Deno.test("tasks that the documents name exist", () => {
  const { tasks } = JSON.parse(read("deno.json")) as { tasks: Record<string, string> };
  for (const document of DOCUMENTS) {
    for (const [, task] of read(document).matchAll(/\bdeno(?:@[\d.]+)? task ([a-z][a-z:]*)/g)) {
      assert.ok(Object.hasOwn(tasks, task), `${document} names the task ${task}`);
    }
  }
});
