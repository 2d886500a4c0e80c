import { readFile, readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, npmProject, packTarballs, temporaryFolder, workspace, writeFiles } from "../support/packed.ts";
import { codeBlocks } from "../support/markdown.ts";

/**
 * Every `ts` block of these pages is a whole program: it runs, ends by itself with exit code 0, and prints what the
 * `text` block behind it says. README.md is tested with its service and client as two processes, the guides to writing
 * plugins with tests of their own, the pages of registries that need a server beside them.
 */
const elsewhere = new Set([
  "README.md",
  "docs/writing-a-broker.md",
  "docs/writing-a-registry.md",
  "docs/coming-from-go.md",
  "packages/broker-kafka/README.md",
  "packages/broker-nats/README.md",
  "packages/broker-rabbitmq/README.md",
  "packages/registry-consul/README.md",
  "packages/registry-etcd/README.md",
]);

async function pages(): Promise<string[]> {
  const docs = (await readdir(join(workspace, "docs"))).map((name) => `docs/${name}`);
  const packages = (await readdir(join(workspace, "packages"))).map((name) => `packages/${name}/README.md`);
  return [...docs, ...packages].filter((page) => page.endsWith(".md") && !elsewhere.has(page)).toSorted();
}

const resources = new AsyncDisposableStack();
let project: string;

beforeAll(async () => {
  const folder = resources.use(await temporaryFolder("micro-docs-"));
  const tarballs = await packTarballs(folder.path, ["core", "protoc-gen-micro", "registry-mdns", "testing"]);
  project = join(folder.path, "app");
  await npmProject(project, [...tarballs.values(), "zod@^4.6.7", "pino@^10"]);
});
afterAll(() => resources.disposeAsync());

for (const page of await pages()) {
  const blocks = codeBlocks(await readFile(join(workspace, page), "utf8").catch(() => ""));
  const programs = blocks.flatMap((block, index) =>
    block.language === "ts" ? [{ ...block, expected: blocks[index + 1] }] : [],
  );
  if (programs.length === 0) continue;
  // A block that names its file is generated from, for the programs of its page.
  const protos = blocks.flatMap(({ language, code }) => {
    const name = /^\/\/ (\w+\.proto)\n/.exec(code)?.[1];
    return language === "proto" && name !== undefined ? [{ name, code }] : [];
  });
  describe(relative(workspace, join(workspace, page)), () => {
    beforeAll(async () => {
      for (const { name, code } of protos) {
        await writeFiles(project, { [name]: code });
        const generator = join(project, "node_modules", ".bin", "protoc-gen-micro");
        expect(await execute(generator, [name, "--out", "gen"], project)).toMatchObject({ code: 0, stderr: "" });
      }
    });
    for (const [index, program] of programs.entries()) {
      it(`the program in line ${program.line} runs`, async () => {
        const file = `${page.replaceAll(/[^a-z0-9]/gi, "-")}-${index}.ts`;
        await writeFiles(project, { [file]: program.code });
        const ended = await execute(process.execPath, [file], project, 30_000);
        expect(ended.code, `${ended.stdout}\n${ended.stderr}`).toBe(0);
        if (program.expected?.language === "text") expect(ended.stdout).toBe(program.expected.code);
      });
    }
  });
}
