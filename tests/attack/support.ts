/**
 * What the attacks share.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type AgentProcess, type Cluster, type Node, PREFIX } from "../../testbed/cluster.ts";
import type { Output, Process } from "../../testbed/netns.ts";

const LEASES = new URL("leases.ts", import.meta.url).pathname;

/** Milliseconds in which a health check is answered, whatever else is going on. */
const PROMPT = 2_000;

/** A health check, and that it is prompt. */
export async function assertPrompt(node: Node, what: string): Promise<void> {
  for (const path of ["/healthz", "/readyz"]) {
    const began = performance.now();
    const { status, body } = await node.health(path);
    const took = Math.round(performance.now() - began);
    assert.equal(status, 200, `${what}: ${path}: ${body}`);
    assert.ok(took < PROMPT, `${what}: ${path} took ${took} ms`);
  }
}

/** Writes so many leases of other nodes, from 10.1.0.0/24 on. */
export async function writeLeases(cluster: Cluster, count: number): Promise<void> {
  const args = ["run", "-A", "--no-check", LEASES, cluster.etcd.endpoint, PREFIX, `${count}`];
  await cluster.etcdHost.run(Deno.execPath(), ...args);
}

/** Mounts of a host's own, with an empty `/run/flannel` that no other test sees. */
export class PrivateRun implements AsyncDisposable {
  private constructor(readonly node: Node, readonly holder: Process) {}

  static async create(node: Node): Promise<PrivateRun> {
    const script = "mkdir -p /run/flannel && mount -t tmpfs -o mode=755 own /run/flannel && " +
      "echo mounted && exec sleep 1000";
    const args = ["--mount", "--propagation=private", "sh", "-c", script];
    const holder = node.ns.spawn("unshare", args);
    await holder.waitForLine(/^mounted$/);
    return new PrivateRun(node, holder);
  }

  /** A command as one that sees these mounts. */
  within(...command: string[]): string[] {
    return ["nsenter", `--target=${this.holder.pid}`, "--mount", "--", ...command];
  }

  /** Runs a shell script there. */
  async sh(script: string): Promise<string> {
    const [command, ...args] = this.within("sh", "-ec", script);
    return await this.node.ns.run(command, ...args);
  }

  /** Starts the agent there. */
  async startAgent(binary: string, env: Record<string, string> = {}): Promise<AgentProcess> {
    const start = `${this.node.folder}/start`;
    const text = `#!/bin/sh\nexec ${this.within(binary).join(" ")} "$@"\n`;
    await Deno.writeTextFile(start, text, { mode: 0o755 });
    return this.node.startAgent({
      binary: start,
      env,
      args: ["--subnet-file=/run/flannel/subnet.env"],
    });
  }

  /** Runs `flanneld peers` there. */
  async peers(binary: string, ...before: string[]): Promise<Output> {
    const [command, ...args] = this.within(...before, binary, "peers", "--json");
    return await this.node.ns.exec(command, ...args);
  }

  /** The number of the network namespace, which the names of the agent's files have. */
  async namespace(): Promise<string> {
    return (await this.node.ns.run("stat", "-L", "-c", "%i", "/proc/self/ns/net")).trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.holder[Symbol.asyncDispose]();
  }
}
