/**
 * The containers' image: busybox and a page of its web server, to be brought in by `docker import`.
 *
 * @module
 */
import { run } from "../netns.ts";

/** Debian's, which needs no library. */
const BUSYBOX = "/usr/bin/busybox";

/** Commands that the image has. */
const APPLETS = ["sh", "cat", "httpd", "ip", "ls", "nc", "ping", "sleep", "telnet", "wget"];

/** What the web server answers with. */
export const PAGE = "<h1>Welcome to the lab!</h1>\n";

/** Writes the image's root file system as a tar file. */
export async function writeImage(tar: string): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "flanneld-image-" });
  try {
    await Deno.chmod(root, 0o755);
    await Deno.mkdir(`${root}/bin`);
    await Deno.mkdir(`${root}/www`);
    await Deno.copyFile(BUSYBOX, `${root}/bin/busybox`);
    for (const applet of APPLETS) await Deno.symlink("busybox", `${root}/bin/${applet}`);
    await Deno.writeTextFile(`${root}/www/index.html`, PAGE);
    await run("tar", ["--owner=0", "--group=0", "-C", root, "-cf", tar, "."]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}
