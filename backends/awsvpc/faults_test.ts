import assert from "node:assert/strict";
import { advice, faultOf } from "./faults.ts";
import { transportError } from "./http_errors.ts";

const BLOB = "rXwBmDf1hZl0Y_ZVcbXSOmHwkQ-Jx9";

/** The line for an answer of EC2's. */
function line(action: string, code: string, message: string, status = 400): string {
  const error = Object.assign(new Error(message), {
    name: code,
    $metadata: { httpStatusCode: status, requestId: "99cf" },
  });
  return advice(faultOf(action, error));
}

/** The line for a denial in the words of IAM. */
function denied(because: string, {
  action = "CreateRoute",
  user = "arn:aws:sts::111122223333:assumed-role/Node/i-0abc",
  resource = "arn:aws:ec2:eu-central-1:111122223333:route-table/rtb-1",
} = {}): string {
  const who = user === "" ? "" : ` User: ${user} is not authorized to perform: ec2:${action}` +
    ` on resource: ${resource} ${because}.`;
  const text = line(
    action,
    "UnauthorizedOperation",
    `You are not authorized to perform this operation.${who} Encoded authorization failure ` +
      `message: ${BLOB}`,
    403,
  );
  assert.ok(!text.includes(BLOB.slice(0, 6)) && !text.includes("Encoded"), text);
  assert.ok(!text.includes("\n") && !text.includes(".."), text);
  return text;
}

const CASES: [because: string, fix: string][] = [
  [
    "because no identity-based policy allows the ec2:CreateRoute action",
    "allow ec2:CreateRoute in the IAM policy of the role Node",
  ],
  [
    "because no permissions boundary allows the ec2:CreateRoute action",
    "also allow ec2:CreateRoute in the permissions boundary of the role Node",
  ],
  [
    "because no session policy allows the ec2:CreateRoute action",
    "allow ec2:CreateRoute in the session policy with which the role Node is assumed",
  ],
  [
    "because no VPC endpoint policy allows the ec2:CreateRoute action",
    "allow ec2:CreateRoute in the policy of the VPC endpoint for EC2",
  ],
  [
    "because no service control policy allows the ec2:CreateRoute action",
    "ask the administrator of the AWS organization to allow ec2:CreateRoute in a service control policy",
  ],
  [
    "because no resource control policy allows the ec2:CreateRoute action",
    "ask the administrator of the AWS organization to allow ec2:CreateRoute in a resource control policy",
  ],
  [
    "with an explicit deny in a service control policy",
    "a Deny in a service control policy forbids ec2:CreateRoute, which no Allow overrides: ask the administrator of the AWS organization to exempt the role Node from it",
  ],
  [
    "with an explicit deny in a service control policy: arn:aws:organizations::444455556666:policy/o-1/service_control_policy/p-1",
    "a Deny in a service control policy forbids ec2:CreateRoute, which no Allow overrides: ask the administrator of the AWS organization to exempt the role Node from it",
  ],
  [
    "with an explicit deny in an identity-based policy",
    "a Deny in an identity-based policy forbids ec2:CreateRoute, which no Allow overrides: ask the administrator of the account's IAM policies to exempt the role Node from it",
  ],
  [
    "with an explicit deny in a permissions boundary",
    "a Deny in a permissions boundary forbids ec2:CreateRoute, which no Allow overrides: ask the administrator of the account's IAM policies to exempt the role Node from it",
  ],
  [
    "with an explicit deny in a VPC endpoint policy",
    "a Deny in a VPC endpoint policy forbids ec2:CreateRoute, which no Allow overrides: ask the owner of the VPC endpoint to exempt the role Node from it",
  ],
  [
    "with an explicit deny",
    "a Deny in a policy forbids ec2:CreateRoute, which no Allow overrides: ask the administrator of the account's IAM policies to exempt the role Node from it",
  ],
];

for (const [because, fix] of CASES) {
  Deno.test(`denied ${because}: who mends it, and how`, () => {
    const text = denied(because);
    assert.ok(text.endsWith(`; ${fix}`), text);
    assert.ok(text.includes(because), text);
    if (because.includes("explicit deny")) assert.doesNotMatch(text, /; allow/);
  });
}

Deno.test("a denial that says no more than that: the lab's words", () => {
  assert.equal(
    denied("", { user: "" }),
    "UnauthorizedOperation: You are not authorized to perform this operation. status code: 403, " +
      "request id: 99cf; allow ec2:CreateRoute in the IAM policy of this instance's role",
  );
});

Deno.test("a denial of a user's, and of another account's resource", () => {
  const because = "because no identity-based policy allows the ec2:CreateRoute action";
  assert.match(
    denied(because, { user: "arn:aws-cn:iam::111122223333:user/lab/bob" }),
    /; allow ec2:CreateRoute in the IAM policy of the user bob$/,
  );
  assert.match(
    denied(because, { resource: "arn:aws:ec2:eu-central-1:444455556666:route-table/rtb-1" }),
    /; the resource belongs to account 444455556666: use a role of that account that allows ec2:CreateRoute$/,
  );
  assert.match(denied(because, { resource: "*" }), /; allow ec2:CreateRoute in/);
});

Deno.test("the encoded message is left out, wherever it is", () => {
  for (const between of [" ", "\n", "  \n  "]) {
    const text = line(
      "CreateRoute",
      "UnauthorizedOperation",
      `No.${between}Encoded authorization failure message:${between}${BLOB}${between}More`,
      403,
    );
    assert.ok(!text.includes(BLOB), text);
  }
});

const NO_CALL = /^EC2 rejects this node's calls: /;

Deno.test("AuthFailure: bad credentials, or a resource of another account", () => {
  const bad = "AWS was not able to validate the provided access credentials";
  for (const action of ["DescribeInstances", "CreateRoute"]) {
    assert.match(line(action, "AuthFailure", bad, 401), NO_CALL);
  }
  const foreign = line("CreateRoute", "AuthFailure", "You do not own the resource rtb-1");
  assert.doesNotMatch(foreign, NO_CALL);
  assert.match(
    foreign,
    /^EC2 refuses CreateRoute: AuthFailure: You do not own the resource rtb-1\. status code: 400.*; the resource may belong to another account, which shares it: only its owner/,
  );
  // No resource is named in these.
  assert.match(line("DescribeRouteTables", "AuthFailure", "Not authorized", 403), NO_CALL);
});

const CREDENTIALS: [code: string, message: string, fix: RegExp][] = [
  ["RequestExpired", "Request has expired.", /this node's clock/],
  ["RequestTimeTooSkewed", "The difference is too large", /this node's clock/],
  ["SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than", /clock/],
  ["SignatureDoesNotMatch", "Signature not yet current: 20260101T000000Z is still later", /clock/],
  ["SignatureDoesNotMatch", "The request signature we calculated does not match", /secret key/],
  ["InvalidClientTokenId", "The security token included is invalid", /check the access key/],
  ["ExpiredToken", "The security token included in the request is expired", /renew the session/],
  ["OptInRequired", "You are not subscribed to this service", /subscribe this account to EC2/],
  ["PendingVerification", "Your account is being verified", /AWS Support/],
  ["Blocked", "Your account is currently blocked", /AWS Support/],
  ["MissingAuthenticationToken", "Request must contain a token", /give the instance a role/],
];

for (const [code, message, fix] of CREDENTIALS) {
  Deno.test(`${code}, ${message}: says what to do`, () => {
    const text = line("DescribeInstances", code, message, 403);
    assert.match(text, NO_CALL);
    assert.match(text, fix);
    assert.doesNotMatch(text, /allow ec2:/);
  });
}

Deno.test("an operation that is not supported or not permitted says what to do", () => {
  assert.match(
    line("CreateRoute", "UnsupportedOperation", "The operation is not supported."),
    /^EC2 refuses CreateRoute: UnsupportedOperation: .*; this region, Outpost or kind of resource/,
  );
  assert.match(
    line("CreateRoute", "OperationNotPermitted", "This is a managed resource", 403),
    /^EC2 refuses CreateRoute: OperationNotPermitted: .*; another AWS service or account manages/,
  );
});

Deno.test("an id that EC2 does not know yet is given time", () => {
  const fault = (code: string) =>
    faultOf(
      "CreateRoute",
      Object.assign(new Error(""), { name: code, $metadata: { httpStatusCode: 400 } }),
    );
  for (const kind of ["Instance", "NetworkInterface", "RouteTable", "Subnet"]) {
    assert.ok(fault(`Invalid${kind}ID.NotFound`).details.grace! > 0);
  }
  assert.equal(fault("InvalidParameterValue").details.grace, undefined);
});

Deno.test("no connection: the host, and what it takes to reach it", () => {
  const host = "ec2.eu-central-1.amazonaws.com";
  const told = (code: string, message: string) => {
    const error = transportError(Object.assign(new Error(message), { code }), host);
    return advice(faultOf("DescribeInstances", error));
  };
  assert.equal(
    told("ETIMEDOUT", "no connection within 5 s"),
    `EC2 cannot be reached: ${host}: no connection within 5 s; give this subnet a way there: an ` +
      "internet or NAT gateway, a VPC endpoint for the service, or a proxy in HTTPS_PROXY",
  );
  assert.doesNotMatch(told("CERT_HAS_EXPIRED", "expired"), /gateway/);
});

Deno.test("a code that is the name of something else is nothing but a code", () => {
  for (const code of ["constructor", "toString", "__proto__"]) {
    assert.match(
      line("CreateRoute", code, "No"),
      new RegExp(`^EC2 refuses CreateRoute: ${code}: `),
    );
  }
});

Deno.test("an answer that is cut off or has no code is told as such, with its status", () => {
  const hint = "\n  Deserialization error: to see the raw response, inspect the hidden field";
  const fault = (name: string, message: string, httpStatusCode: number) =>
    faultOf(
      "CreateRoute",
      Object.assign(new Error(message), { name, $metadata: { httpStatusCode } }),
    );
  for (const status of [200, 403]) {
    const unread = fault("Error", `aborted${hint} x`, status);
    assert.equal(unread.kind, "server");
    assert.equal(
      unread.message,
      `EC2 failed in CreateRoute: the answer cannot be read (aborted). status code: ${status}`,
    );
    assert.match(advice(unread), /; check AWS_ENDPOINT_URL_EC2, /);
  }
  for (const status of [400, 501]) {
    assert.equal(fault("Unknown", "Unknown", status).kind, "refused");
  }
  assert.match(fault("Unknown", "Unknown", 403).message, /: the answer gives no reason\. status/);
  assert.equal(fault("Unknown", "Unknown", 503).details.fix, undefined);
  assert.equal(fault("Error", `unexpected content${hint} x`, 429).kind, "throttled");
});
