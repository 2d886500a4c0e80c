import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, npmProject, packTarballs, temporaryFolder, workspace, writeFiles } from "../support/packed.ts";

const resources = new AsyncDisposableStack();
let project: string;

beforeAll(async () => {
  const folder = resources.use(await temporaryFolder("micro-pubsub-"));
  const tarballs = await packTarballs(folder.path, ["core"]);
  project = join(folder.path, "app");
  await npmProject(project, [...tarballs.values()]);
});
afterAll(() => resources.disposeAsync());

describe("examples/pubsub", () => {
  it("runs without a server, handles every order as it says, and ends by itself", async () => {
    const program = await readFile(join(workspace, "examples", "pubsub", "pubsub.ts"), "utf8");
    await writeFiles(project, { "pubsub.ts": program });
    const { code, stdout, stderr } = await execute(process.execPath, ["pubsub.ts"], project, 60_000);
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toBe("shop       publishes 5 orders, broker http");
    expect(lines.at(-1)).toBe("shop       every order was seen by the audit and mailed once");
    const audit = lines.filter((line) => line.startsWith("audit"));
    expect(audit.map((line) => line.split(": ")[1])).toEqual(["tea", "bread", "cheese", "apples", "jam"]);
    const mailed = lines.flatMap(
      (line) => /^mailer-[12] {3}order (\d) mailed(.*)$/.exec(line)?.slice(1, 3).join("") ?? [],
    );
    expect(mailed.toSorted()).toEqual(["1", "2", "3, at attempt 2", "4", "5"]);
    expect(lines.filter((line) => line.endsWith("the mail server is busy"))).toHaveLength(1);
    expect(stderr).toMatch(/Broker \[http\] Connected to \[::\]:\d+/);
  });
});
