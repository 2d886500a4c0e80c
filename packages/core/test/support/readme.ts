/** The READMEs of packages with a server: the program they begin with runs beside the real one. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { codeBlocks } from "./markdown.ts";
import { execute } from "./packed.ts";

/** What {@link readmeTest} needs to know of a package. */
export interface ReadmeOf {
  /** The package's `test/`, with `support/resolve.mjs`, which has programs run on the sources. */
  readonly tests: string;
  /** Why there is no server. */
  readonly missing: string | undefined;
  /** The address that the README has for one. */
  readonly written: string;
  /** The one of the server that runs. */
  readonly address: () => Promise<string>;
}

/** Declare the test of a package's README: its first program prints what it says. */
export function readmeTest({ tests, missing, written, address }: ReadmeOf): void {
  describe.skipIf(missing !== undefined)("README", () => {
    it("has a program that runs and prints what it says", { timeout: 90_000 }, async () => {
      const blocks = codeBlocks(await readFile(join(tests, "..", "README.md"), "utf8"));
      const program = blocks.find(({ language }) => language === "ts")?.code ?? "";
      const output = blocks.find(({ language }) => language === "text")?.code;
      expect(program).toContain(written);
      // Within the package, whose dependencies it imports.
      const folder = await mkdtemp(join(tests, "readme-"));
      try {
        const file = join(folder, "program.ts");
        await writeFile(file, program.replace(written, await address()));
        const resolve = join(tests, "support", "resolve.mjs");
        const ended = await execute(process.execPath, ["--import", resolve, file], tests, 60_000);
        expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: output });
      } finally {
        await rm(folder, { recursive: true });
      }
    });
  });
}

/** The folder of a test file. */
export function folderOf(url: string): string {
  return fileURLToPath(new URL(".", url));
}
