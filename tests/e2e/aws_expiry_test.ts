/** Credentials that expire, are exchanged, or are not to be had while an agent runs. */
import assert from "node:assert/strict";
import type { AgentProcess, Node } from "../../testbed/cluster.ts";
import { wrongClock } from "../../testbed/faketime.ts";
import { waitFor } from "../../testbed/netns.ts";
import type { ChangingMetadata } from "../../testbed/changing_metadata.ts";
import type { Ec2Call } from "../../testbed/aws.ts";
import { type Cloud, cloud } from "./aws_cloud.ts";

/** Milliseconds for which the role's new credentials last. */
const HOUR = 3_600_000;

/** Milliseconds for which its first ones last, so that they are read again before each call. */
const SHORT = 10_000;

/** Milliseconds after its first route within which an agent looks at it again, 20 s at least. */
const CONFIRMED = 90_000;

const RECOVERED = /Recovered: the VPC's routes are correct/;

/** A node with a role of its own. */
class Subject {
  constructor(
    readonly world: Cloud,
    readonly node: Node,
    readonly role: ChangingMetadata,
    readonly index: number,
  ) {}

  get agent(): AgentProcess {
    return this.node.agent!;
  }

  /** An access key that no other node has. */
  key(name: string): string {
    return `${name}${this.index}`;
  }

  async start(env: Record<string, string> = {}): Promise<void> {
    this.node.startAgent({ env: { ...this.world.env, ...env } });
    await this.node.waitReady(60_000);
  }

  /** The role's credentials now. */
  give(name: string, lifetime: number): void {
    this.role.credentials = { accessKeyId: this.key(name), lifetime };
  }

  /** EC2 takes this key no longer. */
  expire(name: string): void {
    this.world.aws.proxy.expired.add(this.key(name));
  }

  /** Calls that were signed with one of this node's keys. */
  get calls(): Ec2Call[] {
    return this.world.aws.proxy.calls.filter(({ accessKey }) =>
      accessKey === this.key("OLD") || accessKey === this.key("NEW")
    );
  }

  /** The next call from now on. */
  async nextCall(): Promise<Ec2Call> {
    const from = this.calls.length;
    return await waitFor(() => this.calls[from], { limitMs: CONFIRMED });
  }

  /** Lines that are no information. */
  get complaints(): string[] {
    return this.agent.lines.filter((line) => !line.startsWith("I"));
  }

  /** What was there is there, and the node says that it is well. */
  async assertRouted(): Promise<void> {
    const { aws, vpc, instances } = this.world;
    const routes = await aws.routes(vpc.mainTableId);
    const { eniId } = instances[this.index];
    assert.equal(routes.filter(({ target }) => target === eniId).length, 1);
    assert.equal((await this.node.health("/readyz")).status, 200);
  }
}

/** What happens to credentials; each on a node of its own, all at the same time. */
const CASES: Record<string, (subject: Subject) => Promise<void>> = {
  "the role's credentials are read again before they end": async (subject) => {
    subject.give("OLD", SHORT);
    await subject.start();
    assert.ok(subject.calls.every(({ accessKey }) => accessKey === subject.key("OLD")));
    subject.give("NEW", HOUR);
    subject.expire("OLD");
    const { accessKey, status } = await subject.nextCall();
    assert.deepEqual([accessKey, status], [subject.key("NEW"), 200]);
    assert.deepEqual(subject.complaints, []);
  },

  "credentials that EC2 calls expired too early are read again": async (subject) => {
    subject.give("OLD", HOUR);
    await subject.start();
    subject.give("NEW", HOUR);
    subject.expire("OLD");
    await subject.agent.waitForLine(RECOVERED, CONFIRMED);
    assert.match(
      subject.complaints.join("\n"),
      /^E.*RequestExpired: Request has .*retrying.*$/,
    );
    assert.equal(subject.calls.filter(({ status }) => status !== 200).length, 1);
    await subject.assertRouted();
  },

  "a shared credentials file that is written anew is read again": async (subject) => {
    const file = `${subject.node.folder}/credentials`;
    const write = (key: string) =>
      Deno.writeTextFile(
        file,
        `[default]\naws_access_key_id = ${key}\naws_secret_access_key = secret\n` +
          `aws_session_token = token of ${key}\n`,
      );
    await write(subject.key("OLD"));
    await subject.start({ AWS_SHARED_CREDENTIALS_FILE: file });
    await write(subject.key("NEW"));
    subject.expire("OLD");
    const { accessKey, status } = await subject.nextCall();
    assert.deepEqual([accessKey, status], [subject.key("NEW"), 200]);
    assert.deepEqual(subject.complaints, []);
  },

  "without a role for a while, what is there stays": async (subject) => {
    subject.give("OLD", SHORT);
    await subject.start();
    subject.role.credentials = undefined;
    subject.expire("OLD");
    await subject.agent.waitForLine(/^E.*no AWS credentials .* retrying/, CONFIRMED);
    await subject.assertRouted();
    subject.give("NEW", HOUR);
    await subject.agent.waitForLine(RECOVERED, CONFIRMED);
  },

  "a metadata service that hangs for a while": (subject) => awayFor(subject, "hang"),

  "a metadata service that is switched off for a while": (subject) => awayFor(subject, "switchOff"),
};

/** The credentials end while the metadata service is away; it is asked again until it is back. */
async function awayFor(subject: Subject, way: "hang" | "switchOff"): Promise<void> {
  subject.give("OLD", SHORT);
  await subject.start();
  subject.give("NEW", HOUR);
  const away = subject.role[way]();
  subject.expire("OLD");
  await subject.agent.waitForLine(/^E.*retrying/, CONFIRMED);
  away[Symbol.dispose]();
  await subject.agent.waitForLine(RECOVERED, CONFIRMED);
  assert.equal(subject.calls.at(-1)!.accessKey, subject.key("NEW"));
  await subject.assertRouted();
}

Deno.test("credentials that end, and those that come after them", async () => {
  const cases = Object.entries(CASES);
  await using world = await cloud({ label: "awsexpiry", nodes: cases.length, changing: true });
  const { cluster: { nodes }, roles } = world;
  const results = await Promise.allSettled(
    cases.map(([, run], index) => run(new Subject(world, nodes[index], roles[index], index))),
  );
  const failures = results.flatMap((result, index) =>
    result.status === "fulfilled"
      ? []
      : `${cases[index][0]}: ${result.reason}\n${nodes[index].agent?.lines.join("\n")}`
  );
  assert.equal(failures.length, 0, failures.join("\n\n"));
});

Deno.test("expired credentials that the metadata service goes on giving are tried all the same", async () => {
  await using world = await cloud({ label: "awsstale", changing: true });
  const { cluster: { nodes: [node] }, roles: [role] } = world;
  const subject = new Subject(world, node, role, 0);
  subject.give("OLD", -60_000);
  await subject.start();
  await subject.assertRouted();
  // Each line is one of the log's.
  assert.deepEqual(node.agent!.lines.filter((line) => !/^[IWE]\d{4} /.test(line)), []);
});

Deno.test("a clock that is wrong: EC2 tells the time, after one error", async () => {
  await using world = await cloud({ label: "awsskew" });
  const { cluster: { nodes: [node] }, env } = world;
  node.startAgent({ env: { ...env, ...wrongClock("+20m") } });
  await node.waitReady(60_000);
  const complaints = node.agent!.lines.filter((line) => !line.startsWith("I"));
  assert.match(complaints.join("\n"), /^E.*RequestExpired.*retrying until it works$/);
  await node.agent!.waitForLine(RECOVERED);
});
