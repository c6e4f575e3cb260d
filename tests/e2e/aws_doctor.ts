/**
 * Runs `flanneld doctor aws-vpc` on a host of a {@linkcode Cloud}, and reads what it prints.
 *
 * @module
 */
import assert from "node:assert/strict";
import { ModifyNetworkInterfaceAttributeCommand } from "@aws-sdk/client-ec2";
import type { Cloud } from "./aws_cloud.ts";
import { runFlanneldWith } from "./support.ts";

/** What it printed. */
export interface Printed {
  code: number;
  lines: string[];
}

/** Runs it on the first node. */
export async function doctor(
  { cluster, env }: Cloud,
  { args = [], more = {} }: { args?: string[]; more?: Record<string, string> } = {},
): Promise<Printed> {
  const all = ["doctor", "aws-vpc", ...cluster.etcdArgs(), ...args];
  const { code, stdout, stderr } = await runFlanneldWith(
    { ...env, ...more },
    cluster.nodes[0],
    ...all,
  );
  assert.equal(stderr, "");
  return { code, lines: stdout.trim().split("\n") };
}

/** Asserts that each of these is a line. */
export function assertLines({ lines }: Printed, ...expected: (string | RegExp)[]): void {
  for (const each of expected) {
    const found = lines.some((line) => typeof each === "string" ? line === each : each.test(line));
    assert.ok(found, `${each}:\n${lines.join("\n")}`);
  }
}

/** The lines that are not ok, each with its fix. */
export function complaints({ lines }: Printed): string[] {
  return lines.filter((line) => /^(warn|fail) |^ +fix: /.test(line));
}

/** Switches the source/dest check of all instances off. */
export async function switchCheckOff({ aws, instances }: Cloud): Promise<void> {
  for (const { eniId: NetworkInterfaceId } of instances) {
    await aws.client.send(
      new ModifyNetworkInterfaceAttributeCommand({
        NetworkInterfaceId,
        SourceDestCheck: { Value: false },
      }),
    );
  }
}
