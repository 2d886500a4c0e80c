import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { codeBlocks } from "../../core/test/support/markdown.ts";
import { endKafka, kafkaAddress, missing } from "./support/kafka.ts";

afterAll(endKafka);

describe.skipIf(missing !== undefined)("README", () => {
  it("has a program that runs and prints what it says", async () => {
    const blocks = codeBlocks(await readFile(new URL("../README.md", import.meta.url), "utf8"));
    const program = blocks.find(({ language }) => language === "ts");
    const output = blocks.find(({ language }) => language === "text");
    const folder = await mkdtemp(fileURLToPath(new URL("./readme-", import.meta.url)));
    try {
      const file = join(folder, "program.ts");
      await writeFile(file, program!.code.replace("127.0.0.1:9092", await kafkaAddress()));
      const resolve = fileURLToPath(new URL("./support/resolve.mjs", import.meta.url));
      const { stdout } = await promisify(execFile)(process.execPath, ["--import", resolve, file], { timeout: 20_000 });
      expect(stdout).toBe(output!.code);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
