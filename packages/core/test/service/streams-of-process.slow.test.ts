import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { waitFor } from "../support/service.ts";

const program = fileURLToPath(new URL("./programs/talker.ts", import.meta.url));

describe.each([
  ["stdout", 1],
  ["stderr", 2],
] as const)("a service whose reader of %s goes away", (name, index) => {
  it("goes on, answers, and ends well on SIGTERM", async () => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"] },
    });
    const texts = ["", "", ""];
    const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
    try {
      for (const [at, stream] of [child.stdout, child.stderr].entries())
        stream.setEncoding("utf8").on("data", (text: string) => (texts[at + 1] += text));
      // Which of the two stays open tells of the calls.
      const other = 3 - index;
      await waitFor(() => texts[index] !== "" && texts[other]!.includes("answered"), "the first lines", 30_000);
      (index === 1 ? child.stdout : child.stderr).destroy();
      const count = () => texts[other]!.split("answered").length;
      const before = count();
      await waitFor(
        () => count() > before + 20,
        () => `further answers\n${texts.join("\n")}`,
        30_000,
      );
      if (index === 1)
        expect(texts[2]).toMatch(/level=warn stdout cannot be written to \(EPIPE\); the service goes on\n/);
      child.kill("SIGTERM");
      expect(await exited).toEqual([0, null]);
      expect(texts[other]).toContain("the end");
    } finally {
      child.kill("SIGKILL");
    }
    expect(name).toBeDefined();
  }, 60_000);
});
