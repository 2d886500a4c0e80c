/** The Kafka of this suite: one that runs already (`MICRO_TEST_KAFKA`), or one that is started for it. */
import { Unavailable, ensureServer, runningServer, startKafka } from "../../../../scripts/servers.mjs";

/** Why there is none; undefined if there is one. In CI that is a failure. */
export const missing: string | undefined = await (
  runningServer("kafka") === undefined
    ? ensureServer("kafka", (line) => process.stderr.write(`${line}\n`))
    : Promise.resolve()
).then(
  () => undefined,
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with Kafka are skipped: ${error.message}\n`);
    return error.message;
  },
);

let shared: Promise<{ readonly address: string; dispose(): Promise<void> }> | undefined;

/** `host:port` of a Kafka shared by the file's tests; use topics and queues of your own. */
export async function kafkaAddress(): Promise<string> {
  const running = runningServer("kafka");
  if (running !== undefined) return running.replace(/^kafka:\/\//, "");
  shared ??= startKafka();
  return (await shared).address;
}

/** To be called before the file's tests: on busy cores the server takes its time. */
export async function startShared(): Promise<void> {
  if (missing === undefined) await kafkaAddress();
}

/** To be called when the file's tests are through. */
export async function endKafka(): Promise<void> {
  await (await shared)?.dispose();
}
