/**
 * What a run leaves that was killed by a signal it could not see: namespaces, files and cgroups
 * that have its process id in their names.
 *
 * @module
 */
import { exists } from "../tools/process.ts";
import { removeCgroups } from "./machine.ts";
import { NetNs } from "./netns.ts";

/**
 * Removes what ended runs have left whose labels are `KIND` and the process id.
 *
 * @returns how many namespaces there were
 */
export async function removeLeftovers(kind: string): Promise<number> {
  const named = new RegExp(`^(?:fl|flanneld)-${kind}(\\d+)-`);
  const orphan = (name: string) => {
    const pid = named.exec(name)?.[1];
    return pid !== undefined && !exists(`/proc/${pid}`);
  };
  const namespaces = (await NetNs.find(named)).filter(({ name }) => orphan(name));
  await Promise.all(namespaces.map((ns) => ns[Symbol.asyncDispose]()));
  const folder = Deno.env.get("TMPDIR") || "/tmp";
  for (const { name } of [...Deno.readDirSync(folder)]) {
    if (orphan(name)) await Deno.remove(`${folder}/${name}`, { recursive: true });
  }
  await removeCgroups(orphan);
  return namespaces.length;
}
