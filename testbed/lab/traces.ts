/**
 * What a lab may leave on the machine, to be sure that it does not.
 *
 * @module
 */
import { NetNs, run } from "../netns.ts";

/** Namespaces, mounts, processes, files and cgroups of the labs with this label. */
export async function traces(label: string): Promise<string[]> {
  const name = `fl-${label}-`;
  const named = (lines: string) => lines.split("\n").filter((line) => line.includes(name));
  const namespaces = await NetNs.find(new RegExp(`^${name}`));
  const folder = Deno.env.get("TMPDIR") || "/tmp";
  return [
    ...namespaces.map((ns) => ns.name),
    ...[...Deno.readDirSync(folder)].map((entry) => entry.name).filter((file) =>
      file.startsWith(name)
    ),
    ...named(await Deno.readTextFile("/proc/self/mounts")),
    ...named(await run("ps", ["-e", "-o", "args="])),
    ...named(await run("find", ["/sys/fs/cgroup", "-maxdepth", "2", "-name", `${name}*`])),
  ];
}
