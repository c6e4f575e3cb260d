/**
 * What the documentation tells operators to allow.
 *
 * @module
 */
const ROOT = new URL("../", import.meta.url);

/** A statement of an IAM policy. */
export interface Statement {
  Effect: string;
  Action: string | string[];
  Resource: string | string[];
  Condition?: Record<string, Record<string, string>>;
}

/** An IAM policy. */
export interface Policy {
  Version: string;
  Statement: Statement[];
}

/** The least policy of docs/aws-vpc.md, and that of flannel's lab. */
export function documentedPolicies(): { least: Policy; lab: Policy } {
  const blocks = page().matchAll(/^```json\n(.*?)^```$/gms);
  const [least, lab] = [...blocks].map(([, text]) => JSON.parse(text) as Policy)
    .filter((value) => "Statement" in value);
  return { least, lab };
}

/** What a policy allows, `CreateRoute`, sorted. */
export function actionsOf({ Statement: statements }: Policy): string[] {
  return statements.flatMap(({ Action }) => Action).map((action) => action.replace(/^ec2:/, ""))
    .sort();
}

/** The actions of the table of docs/aws-vpc.md, sorted. */
export function documentedActions(): string[] {
  return [...page().matchAll(/^\| `ec2:(\w+)`/gm)].map(([, action]) => action).sort();
}

/** The log's lines that the document explains, each as the texts between what varies. */
export function documentedLines(): string[][] {
  const [, table] = page().split("## What goes wrong");
  const rows = [...table.matchAll(/^\| (`.*?`) +\|/gm)].map(([, cell]) => cell);
  const lines = rows.flatMap((row) => [...row.matchAll(/`([^`]*)`/g)].map(([, line]) => line));
  const values = /\b(rtb|eni|igw|subnet|i|vpc)-…|\d+(\.\d+){3}\/\d+|\b50\b|ec2:CreateRoute/g;
  return lines.map((line) =>
    line.replaceAll(values, "…").split("…").map((text) => text.replace(/^[ ,.;:]+|[ ,.;:]+$/g, ""))
      .filter((text) => text !== "")
  );
}

/** The backend's texts, with `…` for what varies in them. */
export function sourceTexts(): string {
  const joined = backendSources().join("").replaceAll(/["`]\s*\+\s*["`]/g, "");
  return joined.replaceAll(/\$\{[^}]*\}|\{\w+\}/g, "…");
}

/** EC2's host in a partition, with REGION in place of the region. */
export function documentedEndpoint(partition: string): string {
  const row = new RegExp(`^\\| ${partition}\\b.*\\| \`(ec2\\.REGION\\.[a-z.]+)\``, "m").exec(
    page(),
  );
  if (row === null) throw new Error(`docs/aws-vpc.md has no row for the partition ${partition}`);
  return row[1];
}

function page(): string {
  return Deno.readTextFileSync(new URL("docs/aws-vpc.md", ROOT));
}

/** The calls that the backend's sources make, sorted. */
export function calledActions(): string[] {
  const actions = new Set<string>();
  for (const text of backendSources()) {
    for (const [, command, page] of text.matchAll(/new (\w+)Command\(|\bpaginate(\w+)\(/g)) {
      actions.add(command ?? page);
    }
  }
  return [...actions].sort();
}

function backendSources(): string[] {
  const folder = new URL("backends/awsvpc/", ROOT);
  const names = [...Deno.readDirSync(folder)].map(({ name }) => `awsvpc/${name}`);
  return names.filter((name) => /(?<!_test)\.ts$/.test(name))
    .map((name) => Deno.readTextFileSync(new URL(`backends/${name}`, ROOT)));
}
