/**
 * Files that several processes write, and locks by files: between this plugin's processes, and with
 * other plugins that lock the same file. A lock is gone with its process.
 *
 * @module
 */
import { CniError, CODES } from "./errors.ts";

/** Milliseconds to wait; runtimes give a call two minutes and more. */
const WAIT = 100_000;
/** Milliseconds between two attempts. */
const PAUSE = 20;

/**
 * Writes a file whole or not at all, whatever was there before.
 *
 * @param temporary path beside it that no other process writes to meanwhile
 */
export function replaceFile(path: string, temporary: string, text: string): void {
  // One that a killed process left; opening a pipe for writing would wait for a reader.
  if (lstat(temporary) !== undefined) Deno.removeSync(temporary);
  Deno.writeTextFileSync(temporary, text, { createNew: true, mode: 0o600 });
  Deno.renameSync(temporary, path);
}

/** A lock that is held. */
export interface Lock {
  /** Ends it; with `remove` its file goes, too: those who wait for it make it again. */
  release(remove?: boolean): void;
}

/**
 * Waits for the lock of a file, which is made where it is missing.
 *
 * @param what is under way as long as another process holds it, for the error
 * @throws {CniError} code 11 where it stays taken, code 5 where it cannot be made
 */
export function lockFile(path: string, what: string, waitMs = WAIT): Lock {
  const end = performance.now() + waitMs;
  for (;;) {
    const file = open(path);
    let isHeld = false;
    try {
      isHeld = file.tryLockSync(true) && isStillAt(path, file);
    } finally {
      if (!isHeld) file.close();
    }
    if (isHeld) {
      return {
        release(remove = false) {
          try {
            // Before the lock ends, so that no one locks what is not there.
            if (remove) Deno.removeSync(path);
          } finally {
            file.close();
          }
        },
      };
    }
    if (performance.now() > end) {
      throw new CniError(
        CODES.tryAgainLater,
        `timeout after ${waitMs / 1000} s waiting for ${what} to finish: ${path} is locked`,
        `see which process has it open: fuser ${path}`,
      );
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
  }
}

function open(path: string): Deno.FsFile {
  // A pipe would keep this process until someone reads from it.
  const there = lstat(path);
  if (there !== undefined && !there.isFile) {
    throw new CniError(CODES.io, `cannot lock ${path}: it is not a regular file`, "remove it");
  }
  try {
    return Deno.openSync(path, { write: true, create: true, mode: 0o600 });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CniError(CODES.io, `cannot lock ${path}: ${reason}`);
  }
}

/** Whether no one has removed the file in the meantime. */
function isStillAt(path: string, file: Deno.FsFile): boolean {
  return lstat(path)?.ino === file.statSync().ino;
}

function lstat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch {
    return undefined;
  }
}
