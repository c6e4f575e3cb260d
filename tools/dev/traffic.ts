/**
 * Traffic from container to container, to show that it crosses.
 *
 * @module
 */
import type { Container } from "../../testbed/cluster.ts";
import type { Process } from "../../testbed/netns.ts";
import type { CopyResult } from "./copy_end.ts";

const COPY_END = `${import.meta.dirname}/copy_end.ts`;

/** Milliseconds for a copy; 32 MB take a tenth of a second over any path that works. */
const COPY_LIMIT = 30_000;

/** A container that sends and an address of one that receives. */
export interface Path {
  from: Container;
  to: Container;
  ip: string;
}

/** Each container to the next one, the last to the first, over each family. */
export function ring(containers: Container[]): Path[] {
  return containers.flatMap((from, index) => {
    const to = containers[(index + 1) % containers.length];
    return [to.ipv4, to.ipv6].filter((ip) => ip !== undefined).map((ip) => ({ from, to, ip }));
  });
}

/** Round-trip time of one ping in milliseconds; undefined where none answers within a second. */
export async function ping({ from, ip }: Path): Promise<number | undefined> {
  const { stdout } = await from.ns.exec("ping", "-n", "-c1", "-W1", ip);
  const time = /time=([\d.]+) ms/.exec(stdout)?.[1];
  return time === undefined ? undefined : Number(time);
}

/**
 * Copies random bytes over TCP.
 *
 * @returns bits a second as the receiver measured
 * @throws Error where an end fails, time runs out or what came is not what went
 */
export async function copy({ from, to, ip }: Path, bytes: number): Promise<number> {
  await using receiver = spawnEnd(to, "receive", ip);
  const [, port] = await receiver.waitForLine(/^port (\d+)$/, COPY_LIMIT);
  await using sender = spawnEnd(from, "send", ip, port, String(bytes));
  const [went, came] = await Promise.all([result(sender), result(receiver)]);
  if (came.bytes !== bytes) throw new Error(`${came.bytes} of ${bytes} bytes came`);
  if (came.sha256 !== went.sha256) throw new Error("the checksums differ");
  return came.bytes * 8 / came.seconds;
}

function spawnEnd({ ns }: Container, ...args: string[]): Process {
  const deno = ["run", "--no-config", "--allow-net", COPY_END, ...args];
  return ns.spawn(Deno.execPath(), deno, { env: { NO_COLOR: "1" } });
}

async function result(process: Process): Promise<CopyResult> {
  const [line] = await process.waitForLine(/^\{.*\}$/, COPY_LIMIT);
  return JSON.parse(line);
}
