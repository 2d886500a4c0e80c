/** Changing several files, so that a failure leaves all of them as they were. */
import { randomUUID } from "node:crypto";
import { lstat, mkdir, realpath, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { InputError } from "./options.ts";

/** A file and its new text; undefined: it is removed. */
export interface Change {
  readonly path: string;
  readonly content: string | undefined;
}

/**
 * Write and remove files. Texts go into temporary files beside their targets first, where a full disk or a missing right shows.
 * @throws {InputError} that says what could not be written, and what was written before
 */
export async function applyChanges(changes: readonly Change[]): Promise<void> {
  const made: string[] = [];
  const temporary = new Map<Change, { readonly from: string; readonly to: string }>();
  try {
    for (const change of changes) {
      const { path, content } = change;
      if (content === undefined) continue;
      await told(`cannot write ${path}`, "nothing was written", async () => {
        // Who keeps a lock elsewhere, by a link, has it there.
        const to = await realpath(path).catch(() => path);
        const first = await mkdir(dirname(to), { recursive: true });
        if (first !== undefined) made.push(...foldersBetween(first, dirname(to)));
        const from = join(dirname(to), `.protoc-gen-micro-${randomUUID()}.tmp`);
        const mode = (await lstat(to).catch(() => undefined))?.mode;
        temporary.set(change, { from, to });
        await writeFile(from, content, { flag: "wx", ...(mode === undefined ? {} : { mode }) });
      });
    }
    const done: string[] = [];
    for (const change of changes) {
      const moved = temporary.get(change);
      const before = done.length === 0 ? "nothing was written" : `written before it: ${done.join(", ")}`;
      if (moved === undefined) await told(`cannot remove ${change.path}`, before, () => rm(change.path));
      else await told(`cannot write ${change.path}`, before, () => rename(moved.from, moved.to));
      temporary.delete(change);
      done.push(change.path);
    }
  } catch (error) {
    for (const { from } of temporary.values()) await rm(from, { force: true }).catch(() => {});
    // Only those that are empty can be removed: what others put there meanwhile stays.
    for (const folder of made.toReversed()) await rmdir(folder).catch(() => {});
    throw error;
  }
}

async function told(what: string, state: string, change: () => Promise<unknown>): Promise<void> {
  try {
    await change();
  } catch (error) {
    throw new InputError(`${what}: ${(error as Error).message}; ${state}`);
  }
}

/** Folders from the outermost one that was made to the innermost. */
function foldersBetween(first: string, last: string): string[] {
  const folders: string[] = [];
  for (let folder = resolve(last); folder.length >= resolve(first).length; folder = dirname(folder)) {
    folders.unshift(folder);
    if (folder === dirname(folder)) break;
  }
  return folders;
}
