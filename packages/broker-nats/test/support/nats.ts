/** The NATS server of this suite: one that runs already (`MICRO_TEST_NATS`), or one that is started for it. */
import { Unavailable, ensureServer, runningServer, startNats } from "../../../../scripts/servers.mjs";

/** Why there is none; undefined if there is one. In CI that is a failure. */
export const missing: string | undefined = await (
  runningServer("nats") === undefined
    ? ensureServer("nats", (line) => process.stderr.write(`${line}\n`))
    : Promise.resolve()
).then(
  () => undefined,
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with NATS are skipped: ${error.message}\n`);
    return error.message;
  },
);

let shared: Promise<{ readonly address: string; dispose(): Promise<void> }> | undefined;

/** `host:port` of a server shared by the file's tests; use topics of your own. */
export async function natsAddress(): Promise<string> {
  const running = runningServer("nats");
  if (running !== undefined) return running;
  // A body of 1 MiB is a third larger on the wire, and 1 MiB is what the server takes by default.
  shared ??= startNats({ config: "max_payload: 8MB" });
  return (await shared).address;
}

/** To be called before the file's tests: on busy cores the server takes its time. */
export async function startShared(): Promise<void> {
  if (missing === undefined) await natsAddress();
}

/** To be called when the file's tests are through. */
export async function endNats(): Promise<void> {
  await (await shared)?.dispose();
}
