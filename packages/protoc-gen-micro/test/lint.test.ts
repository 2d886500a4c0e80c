import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const golden = fileURLToPath(new URL("golden", import.meta.url));

it("stubs pass the project's lint without the comment that switches linters off", () => {
  const folder = mkdtempSync(join(tmpdir(), "micro-lint-"));
  try {
    const files = readdirSync(golden).filter((name) => name.endsWith(".micro.ts.txt"));
    expect(files.length).toBeGreaterThan(0);
    for (const name of files) {
      const stub = readFileSync(join(golden, name), "utf8");
      expect(stub).toContain("/* eslint-disable */\n");
      writeFileSync(join(folder, name.replace(/\.txt$/, "")), stub.replace("/* eslint-disable */\n", ""));
    }
    const lint = spawnSync(
      join(root, "node_modules", ".bin", "oxlint"),
      ["--deny-warnings", "-c", join(root, ".oxlintrc.json"), folder],
      { cwd: root, encoding: "utf8" },
    );
    expect(lint.stdout).toMatch(new RegExp(`on ${files.length} files`));
    expect(lint.status, lint.stdout).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
