/** Waiting for .proto files to change. */
import { statSync, watch, type FSWatcher } from "node:fs";
import { dirname, resolve } from "node:path";

/** Editors write a file in several steps. */
const settleMs = 100;

/**
 * Wait until one of these files changes, comes or goes.
 * @param since a time in milliseconds: what was changed after it counts as well
 * @returns false if the signal ended the wait
 */
export function anyChanges(paths: readonly string[], since: number, signal: AbortSignal): Promise<boolean> {
  const wanted = new Set(paths.map((path) => resolve(path)));
  // Folders and not files: a file that is replaced is another one.
  const folders = new Set([...wanted].map(dirname));
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
    for (const folder of folders) {
      const watcher = watch(folder, (_, name) => {
        if (name !== null && !wanted.has(resolve(folder, name))) return;
        clearTimeout(timer);
        timer = setTimeout(end, settleMs, true);
      });
      // A folder that goes away is a change as well.
      watcher.on("error", () => end(true));
      watchers.push(watcher);
    }
    if ([...wanted].some((path) => changedWithin(path, since, Date.now()))) timer = setTimeout(end, settleMs, true);
    return undefined;
  });
}

/** Times in the future say nothing. */
function changedWithin(path: string, since: number, now: number): boolean {
  const changed = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return changed !== undefined && changed > since && changed <= now;
}
