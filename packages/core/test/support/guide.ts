/** The pages that build a whole package: their files type-check outside the workspace, and their tests pass. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, packTarballs, temporaryFolder, workspace, writeFiles } from "./packed.ts";

/** The page's files: a code block belongs to the file named at the start of the paragraph before it. */
function filesOf(markdown: string): Record<string, string> {
  const blocks = markdown.matchAll(/^`([\w.-]+)`[^\n]*\n(?:(?!```)[^\n]*\n)*?```\w+\n(.*?)^```$/gms);
  return Object.fromEntries(Array.from(blocks, ([, file, code]) => [file, code]));
}

/** Declare the tests of a page. @param leastTests how many tests its package has at the least. */
export function guideTests(name: string, files: readonly string[], leastTests: number): void {
  const page = join(workspace, "docs", name);
  const resources = new AsyncDisposableStack();
  let project: string;

  async function must(command: string, args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await execute(command, args, project);
    expect(code, `${command} ${args.join(" ")}\n${stdout}\n${stderr}`).toBe(0);
    return stdout;
  }

  beforeAll(async () => {
    const folder = resources.use(await temporaryFolder(`micro-${name.replace(/\W+/g, "-")}-`));
    const tarballs = await packTarballs(folder.path, ["core", "testing"]);
    project = join(folder.path, "package");
    await writeFiles(project, filesOf(await readFile(page, "utf8")));
    const { typescript, "@types/node": nodeTypes } = JSON.parse(
      await readFile(join(workspace, "package.json"), "utf8"),
    ).devDependencies;
    const install = ["install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", "--save-dev"];
    await must("npm", [...install, ...tarballs.values(), `typescript@${typescript}`, `@types/node@${nodeTypes}`]);
  }, 180_000);
  afterAll(() => resources.disposeAsync());

  describe(`docs/${name}`, () => {
    it("has the files of a whole package", async () => {
      expect(Object.keys(filesOf(await readFile(page, "utf8")))).toEqual(files);
    });

    it("type-checks outside the workspace, strictly", { timeout: 120_000 }, async () => {
      const compilerOptions = {
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        erasableSyntaxOnly: true,
        allowImportingTsExtensions: true,
        module: "nodenext",
        target: "es2024",
        lib: ["es2024", "esnext.disposable"],
        types: ["node"],
        noEmit: true,
      };
      await writeFiles(project, { "tsconfig.json": JSON.stringify({ compilerOptions, include: ["*.ts"] }) });
      await must(join(project, "node_modules", ".bin", "tsc"), ["-p", "."]);
    });

    it("passes the conformance suite with Node's own runner", { timeout: 180_000 }, async () => {
      const report = await must("node", ["--test", "--test-reporter=tap"]);
      const count = (what: string): number => Number(new RegExp(`^# ${what} (\\d+)$`, "m").exec(report)?.[1]);
      expect(count("fail")).toBe(0);
      expect(count("skipped")).toBe(0);
      // The whole suite, and the page's own tests.
      expect(count("pass")).toBeGreaterThan(leastTests);
    });
  });
}
