import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { ensureProtobufConformance, Unavailable } from "../../../scripts/servers.mjs";
import { command, execute, folder } from "./support/generator.ts";

const here = (name: string): string => fileURLToPath(new URL(`conformance/${name}`, import.meta.url));

const runner = await ensureProtobufConformance().catch((error: unknown) => {
  if (!(error instanceof Unavailable)) throw error;
  return error.message;
});
const files = ["proto2", "proto3", "proto2_editions", "proto3_editions", "edition2023"];

it("Google's conformance suite: every required and recommended case passes", { timeout: 120_000 }, async (context) => {
  // The runner is a program from npm, for the platforms it is built for: without it nothing can be told, and `runner` says why.
  if (typeof runner === "string") return context.skip(runner);
  await using work = await folder({});
  const generated = join(work.path, "gen");
  const protos = [
    "conformance/conformance.proto",
    ...files.map((name) => `google/protobuf/test_messages_${name}.proto`),
  ];
  const made = await command("-I", runner.protos, ...protos, "--emit", "messages", "--out", generated);
  expect(made).toMatchObject({ code: 0 });
  const testee = join(work.path, "testee");
  const words = [process.execPath, `--import=${pathToFileURL(here("hooks.mjs")).href}`, here("testee.mjs"), generated];
  await writeFile(testee, `#!/bin/sh\nexec ${words.map((word) => `'${word}'`).join(" ")}\n`);
  await chmod(testee, 0o755);
  const [program, ...args] = runner.command;
  const flags = ["--enforce_recommended", "--maximum_edition", "2023", "--failure_list", here("failures.txt")];
  const ended = await execute(program, [...args, ...flags, "--output_dir", work.path, testee], work.path);
  const report = ended.out + ended.errors;
  const failed = report.split("\n").filter((line) => line.startsWith("ERROR, test="));
  expect(failed.map((line) => line.slice(0, 300))).toEqual([]);
  const [, successes, skipped] = /PASSED: (\d+) successes, (\d+) skipped/.exec(report) ?? [];
  expect(Number(successes), report.slice(-2000)).toBeGreaterThan(5500);
  expect(Number(skipped)).toBe(0);
  expect(ended.code).toBe(0);
  return undefined;
});
