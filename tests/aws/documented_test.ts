/** The documentation's policies are what the agent needs, and nothing else. */
import assert from "node:assert/strict";
import { DescribeRouteTablesCommand, EC2Client } from "@aws-sdk/client-ec2";
import { POLICIES } from "../../testbed/aws.ts";
import {
  actionsOf,
  calledActions,
  documentedActions,
  documentedEndpoint,
  documentedLines,
  documentedPolicies,
  sourceTexts,
} from "../../testbed/documented.ts";

Deno.test("the documentation lists exactly the calls that are made", () => {
  assert.deepEqual(documentedActions(), calledActions());
});

Deno.test("the policies are well-formed, and allow what they are said to", () => {
  const { least, lab } = documentedPolicies();
  assert.deepEqual(actionsOf(lab), POLICIES.lab.toSorted());
  assert.deepEqual(
    actionsOf(least),
    [...actionsOf(lab), "ModifyNetworkInterfaceAttribute"].sort(),
  );
  for (const { Version, Statement } of [least, lab]) {
    assert.equal(Version, "2012-10-17");
    for (const { Effect, Action, Resource, Condition } of Statement) {
      assert.equal(Effect, "Allow");
      for (const action of [Action].flat()) assert.match(action, /^ec2:[A-Z]\w+$/);
      for (const resource of [Resource].flat()) {
        assert.match(resource, /^(\*|arn:aws:ec2:REGION:ACCOUNT:[a-z-]+\/(\*|rtb-ID))$/);
      }
      for (const operator of Object.keys(Condition ?? {})) {
        assert.match(operator, /^StringEquals(IgnoreCase)?$/);
      }
    }
  }
});

Deno.test("no call that describes is limited to resources, and each that changes is", () => {
  for (const { Action, Resource } of documentedPolicies().least.Statement) {
    const describes = [Action].flat().map((action) => action.startsWith("ec2:Describe"));
    assert.equal(new Set(describes).size, 1, `${Action}`);
    assert.equal(Resource === "*", describes[0], `${Action}`);
  }
});

Deno.test("each line that the documentation explains is one that the backend logs", () => {
  const texts = sourceTexts();
  const lines = documentedLines();
  assert.ok(lines.length > 20, `${lines.length}`);
  for (const line of lines) {
    for (const text of line) assert.ok(texts.includes(text), `${JSON.stringify(text)} of ${line}`);
  }
});

Deno.test("each partition has the endpoint that the documentation says", async () => {
  const regions = { AWS: "eu-central-1", China: "cn-north-1", GovCloud: "us-gov-west-1" };
  for (const [partition, region] of Object.entries(regions)) {
    const pattern = documentedEndpoint(partition);
    assert.equal(await endpointOf(region), pattern.replace("REGION", region));
  }
});

/** The host that a client of this region calls. */
async function endpointOf(region: string): Promise<string> {
  const client = new EC2Client({ region, credentials: { accessKeyId: "a", secretAccessKey: "b" } });
  let host = "";
  client.middlewareStack.add(
    () => (input) => {
      host = (input.request as { hostname: string }).hostname;
      throw new Error("not sent");
    },
    { step: "finalizeRequest", priority: "low" },
  );
  await client.send(new DescribeRouteTablesCommand({})).catch(() => {});
  client.destroy();
  return host;
}
