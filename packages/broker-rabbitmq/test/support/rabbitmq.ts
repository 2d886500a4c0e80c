/** The RabbitMQ server of this suite: one that runs already (`MICRO_TEST_RABBITMQ`), or one that is started for it. */
import { connect } from "amqplib";
import { Unavailable, ensureServer, runningServer, startRabbitmq } from "../../../../scripts/servers.mjs";

/** Why there is none; undefined if there is one. In CI that is a failure. */
export const missing: string | undefined = await (
  runningServer("rabbitmq") === undefined
    ? ensureServer("rabbitmq", (line) => process.stderr.write(`${line}\n`))
    : Promise.resolve()
).then(
  () => undefined,
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with RabbitMQ are skipped: ${error.message}\n`);
    return error.message;
  },
);

let shared: Promise<{ readonly url: string; dispose(): Promise<void> }> | undefined;

/** `amqp://…` of a server shared by the file's tests; use topics and queues of your own. */
export async function rabbitmqUrl(): Promise<string> {
  const running = runningServer("rabbitmq");
  if (running !== undefined) return running.includes("://") ? running : `amqp://guest:guest@${running}`;
  shared ??= startRabbitmq();
  return (await shared).url;
}

/** To be called before the file's tests: on busy cores the server takes its time. */
export async function startShared(): Promise<void> {
  if (missing === undefined) await rabbitmqUrl();
}

/** To be called when the file's tests are through. */
export async function endRabbitmq(): Promise<void> {
  await (await shared)?.dispose();
}

/** What another client of the server would do. */
export async function withBareChannel<T>(
  url: string,
  use: (channel: Awaited<ReturnType<Awaited<ReturnType<typeof connect>>["createConfirmChannel"]>>) => Promise<T>,
): Promise<T> {
  const connection = await connect(url);
  connection.on("error", () => {});
  try {
    const channel = await connection.createConfirmChannel();
    channel.on("error", () => {});
    return await use(channel);
  } finally {
    await connection.close().catch(() => {});
  }
}
