/** Waiting for .proto files to change. */
import { readdirSync, statSync, watch, type FSWatcher } from "node:fs";
import { dirname, join, resolve, sep } from "node:path";

/** Editors write a file in several steps. */
const settleMs = 100;

/**
 * Wait until one of these files changes, comes or goes, or any .proto file or folder in one of these folders does.
 * @param since a time in milliseconds: what was changed after it counts as well
 * @returns false if the signal ended the wait
 */
export function anyChanges(paths: readonly string[], since: number, signal: AbortSignal): Promise<boolean> {
  const wanted = paths.map((path) => resolve(path));
  /** Those of which every .proto file counts. */
  const open = new Set(wanted.filter(isFolder));
  // Folders and not files: a file that is replaced is another one.
  const folders = new Set(wanted.map((path) => (open.has(path) ? path : existingFolder(dirname(path)))));
  const concerns = (path: string): boolean =>
    wanted.some((one) => one === path || one.startsWith(path + sep)) ||
    (open.has(dirname(path)) && (path.endsWith(".proto") || isFolder(path)));
  const watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  return new Promise<boolean>((done) => {
    const end = (changed: boolean): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      for (const watcher of watchers) watcher.close();
      done(changed);
    };
    const stop = (): void => end(false);
    if (signal.aborted) return end(false);
    signal.addEventListener("abort", stop);
    const soon = (): void => {
      clearTimeout(timer);
      timer = setTimeout(end, settleMs, true);
    };
    for (const folder of folders) {
      const watcher = watch(folder, (_, name) => {
        // A folder that goes away is a change as well, and no name in it is told.
        if (name === null || concerns(resolve(folder, name)) || !isFolder(folder)) soon();
      });
      watcher.on("error", () => end(true));
      watchers.push(watcher);
    }
    const files = wanted.flatMap((path) => (open.has(path) ? protosIn(path) : [path]));
    if (files.some((path) => changedWithin(path, since, Date.now()))) soon();
    return undefined;
  });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** A folder, or the next one above it that is there. */
function existingFolder(path: string): string {
  return isFolder(path) || path === dirname(path) ? path : existingFolder(dirname(path));
}

function protosIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".proto"))
    .map((name) => join(folder, name));
}

/** Times in the future say nothing. */
function changedWithin(path: string, since: number, now: number): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  // A file that is moved here keeps the time of its text.
  const changed = stat === undefined ? 0 : Math.max(stat.mtimeMs, stat.ctimeMs);
  return changed > since && changed <= now;
}
