/** The etcd of this suite: one that runs already (`MICRO_TEST_ETCD`), or one that is started for it. */
import { Unavailable, ensureServer, runningServer, startEtcd } from "../../../../scripts/servers.mjs";

/** Why there is none; undefined if there is one. In CI that is a failure. */
export const missing: string | undefined = await (
  runningServer("etcd") === undefined
    ? ensureServer("etcd", (line) => process.stderr.write(`${line}\n`))
    : Promise.resolve()
).then(
  () => undefined,
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with etcd are skipped: ${error.message}\n`);
    return error.message;
  },
);

let shared: Promise<{ readonly url: string; dispose(): Promise<void> }> | undefined;

/** URL of an etcd shared by the file's tests; use a namespace of your own. */
export async function etcdUrl(): Promise<string> {
  const running = runningServer("etcd");
  if (running !== undefined) return running;
  shared ??= startEtcd();
  return (await shared).url;
}

/** To be called before the file's tests: on busy cores the server takes its time. */
export async function startShared(): Promise<void> {
  if (missing === undefined) await etcdUrl();
}

/** To be called when the file's tests are through. */
export async function endEtcd(): Promise<void> {
  await (await shared)?.dispose();
}
