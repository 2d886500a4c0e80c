import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type TestServer, Unavailable, startKafka, startNats, startRabbitmq } from "../../../../scripts/servers.mjs";
import { execute, npmProject, packTarballs, temporaryFolder, workspace, writeFiles } from "../support/packed.ts";

const example = join(workspace, "examples", "pubsub");
const resources = new AsyncDisposableStack();
let project: string;

beforeAll(async () => {
  const folder = resources.use(await temporaryFolder("micro-pubsub-"));
  const tarballs = await packTarballs(folder.path, ["core"]);
  project = join(folder.path, "app");
  await npmProject(project, [...tarballs.values()]);
});
afterAll(() => resources.disposeAsync());

/** What it prints, whichever broker carries the events. */
function check(broker: string, stdout: string): void {
  const lines = stdout.trimEnd().split("\n");
  expect(lines[0]).toBe(`shop       publishes 5 orders, broker ${broker}`);
  expect(lines.at(-1)).toBe("shop       every order was seen by the audit and mailed once");
  const audit = lines.filter((line) => line.startsWith("audit"));
  expect(audit.map((line) => line.split(": ")[1])).toEqual(["tea", "bread", "cheese", "apples", "jam"]);
  const mailed = lines.flatMap(
    (line) => /^mailer-[12] {3}order (\d) mailed(.*)$/.exec(line)?.slice(1, 3).join("") ?? [],
  );
  expect(mailed.toSorted()).toEqual(["1", "2", "3, at attempt 2", "4", "5"]);
  expect(lines.filter((line) => line.endsWith("the mail server is busy"))).toHaveLength(1);
}

const servers: Readonly<Record<string, () => Promise<TestServer>>> = {
  nats: () => startNats(),
  kafka: () => startKafka(),
  rabbitmq: () => startRabbitmq(),
};

describe("examples/pubsub", () => {
  for (const [broker, start] of Object.entries(servers))
    it(`runs on ${broker} by the environment alone`, { timeout: 180_000 }, async (context) => {
      let server: TestServer | undefined;
      try {
        server = await start();
      } catch (error) {
        if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
        context.skip(error.message);
      }
      try {
        const env = { MICRO_BROKER: broker, MICRO_BROKER_ADDRESS: server?.address ?? "", MICRO_REGISTRY: "memory" };
        const { code, stdout, stderr } = await execute(process.execPath, ["pubsub.ts"], example, 120_000, env);
        expect(code, `${stdout}\n${stderr}`).toBe(0);
        check(broker, stdout);
        const connected = `Broker [${broker}] Connected to ${server?.address}`;
        // Once for each of the services that subscribe.
        expect(stderr.split(connected).length - 1, stderr).toBe(3);
      } finally {
        await server?.dispose();
      }
    });

  it("runs without a server, handles every order as it says, and ends by itself", async () => {
    const program = await readFile(join(workspace, "examples", "pubsub", "pubsub.ts"), "utf8");
    await writeFiles(project, { "pubsub.ts": program });
    const { code, stdout, stderr } = await execute(process.execPath, ["pubsub.ts"], project, 60_000);
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    check("http", stdout);
    expect(stderr).toMatch(/Broker \[http\] Connected to \[::\]:\d+/);
  });
});
