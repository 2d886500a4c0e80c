// `npm test [-- --quick] [--only SUITE]`: sets up all it needs, runs every suite, and closes with one summary.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { Unavailable, ensureServer, runningServer, serverNames } from "./servers.mjs";
import { installAndBuild, root, run, toolchain } from "./toolchain.mjs";

const { values: options } = parseArgs({
  options: { quick: { type: "boolean", default: false }, only: { type: "string", multiple: true } },
});
const ci = process.env.CI === "true";
const started = performance.now();
const tools = await toolchain();
await installAndBuild(tools);
const scratch = mkdtempSync(join(tmpdir(), "micro-test-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

const bin = (name) => join(root, "node_modules", ".bin", name);

/** A command that passes or fails as a whole. */
const check = (name, command, args) => ({
  name,
  async run() {
    const { code } = await run(command, args, { env: tools.env });
    const failures = code === 0 ? [] : [`exit code ${code}`];
    return { passed: code === 0 ? 1 : 0, failed: failures.length, skipped: [], failures };
  },
});

/** A vitest project; its own report gives the numbers. */
const vitest = (name, args, quick) => ({
  name,
  quick,
  async run() {
    const report = join(scratch, `${name}.json`);
    const { code } = await run(
      bin("vitest"),
      ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...args],
      {
        env: { ...tools.env, FORCE_COLOR: "0", ...(options.quick && { MICRO_TEST_QUICK: "1" }) },
      },
    );
    if (!existsSync(report)) return { passed: 0, failed: 1, skipped: [] };
    const {
      numPassedTests: passed,
      numFailedTests,
      numPendingTests: pending,
      testResults,
    } = JSON.parse(readFileSync(report, "utf8"));
    // A file that fails to load has no failed test in it, and a failure outside of tests only shows in the exit code.
    const brokenFiles = testResults.filter(
      (file) => file.status === "failed" && file.assertionResults.every((test) => test.status !== "failed"),
    ).length;
    const failed = numFailedTests + brokenFiles || (code === 0 ? 0 : 1);
    return {
      passed,
      failed,
      skipped: pending === 0 ? [] : [`${pending} tests of ${name} (reasons above)`],
      failures: testResults.filter((file) => file.status === "failed").flatMap(failuresOf),
    };
  },
});

/** What failed in a file of vitest's report, with the first lines of why. */
function failuresOf({ name, message, assertionResults }) {
  const file = relative(root, name);
  const tests = assertionResults.filter((test) => test.status === "failed");
  if (tests.length === 0) return [`${file}: ${firstLines(message)}`];
  return tests.map((test) => `${file} > ${test.fullName}: ${firstLines(test.failureMessages[0] ?? "")}`);
}

/** Enough to know the failure again where only the end of the output is kept. */
const firstLines = (text) => text.split("\n").slice(0, 4).join("\n    ").slice(0, 800);

/** Why the first of these servers cannot be had; `undefined` if all can. */
async function unavailable(names) {
  for (const name of names)
    try {
      await ensureServer(name);
    } catch (error) {
      if (error instanceof Unavailable) return `${name}: ${error.message.split("\n")[0]}`;
      throw error;
    }
  return undefined;
}

const suites = [
  { ...check("lint", bin("oxlint"), ["--type-aware", "--deny-warnings"]), quick: true },
  { ...check("format", bin("oxfmt"), ["--check"]), quick: true },
  { ...check("types of tests and examples", bin("tsc"), ["-p", "tsconfig.test.json", "--noEmit"]), quick: true },
  { ...check("types of interop", bin("tsc"), ["-p", "interop", "--noEmit"]), quick: true },
  { ...check("types of chaos", bin("tsc"), ["-p", "chaos", "--noEmit"]), quick: true },
  vitest("unit", ["--project=unit"], true),
  vitest("slow", ["--project=slow"], false),
  vitest("faults", ["--project=faults"], false),
  vitest("packaging", ["--project=packaging"], false),
  {
    name: "interop",
    async run() {
      const report = join(scratch, "interop.json");
      const { code } = await run(tools.node, [join(root, "interop", "run.mjs"), "--json", report], { env: tools.env });
      if (!existsSync(report)) return { passed: 0, failed: 1, skipped: [] };
      const { passed, failed, skipped, cells = [] } = JSON.parse(readFileSync(report, "utf8"));
      const failures = cells
        .filter(({ state }) => state === "FAIL")
        .map(
          ({ scenario, generation, direction, via, text }) =>
            `${scenario} (${generation}, ${direction}, ${via}): ${firstLines(text ?? "")}`,
        );
      return { passed, failed: failed || (code === 0 ? 0 : 1), skipped, failures };
    },
  },
  {
    // One minute with a seed that stays, so that a failure is one of what changed. `npm run chaos` takes any.
    name: "chaos",
    async run() {
      const missing = await unavailable(["etcd", "nats"]);
      if (missing !== undefined) return { passed: 0, failed: 0, skipped: [missing] };
      const report = join(scratch, "chaos.json");
      const chaos = ["--import", join(root, "chaos", "resolve.mjs"), join(root, "chaos", "main.ts")];
      const { code } = await run(
        tools.node,
        [...chaos, "--seed", "1", "--minutes", "1", "--backend", "etcd", "--json", report],
        { env: tools.env },
      );
      if (!existsSync(report)) return { passed: 0, failed: 1, skipped: [] };
      const { passed, failed, checks } = JSON.parse(readFileSync(report, "utf8"));
      const failures = Object.entries(checks)
        .filter(([, violations]) => violations.length > 0)
        .map(([what, violations]) => `${what}: ${firstLines(violations.join("\n"))}`);
      return { passed, failed: failed || (code === 0 ? 0 : 1), skipped: [], failures };
    },
  },
].filter((suite) => (options.only === undefined ? !options.quick || suite.quick : options.only.includes(suite.name)));

// Got once, before any test waits for one. Where one cannot be had, its tests say why they are skipped.
if (!options.quick && suites.some(({ name }) => ["unit", "slow", "faults", "interop", "chaos"].includes(name)))
  for (const name of serverNames)
    // The fault kits mistreat servers of their own, whichever runs already.
    if (runningServer(name) === undefined || suites.some((suite) => suite.name === "faults"))
      await ensureServer(name, (line) => process.stdout.write(`${line}\n`)).catch((error) => {
        if (!(error instanceof Unavailable)) throw error;
      });

const results = [];
for (const suite of suites) {
  process.stdout.write(`\n=== ${suite.name}\n`);
  const from = performance.now();
  const result = await suite.run();
  results.push({ name: suite.name, seconds: (performance.now() - from) / 1000, ...result });
}

const skipped = results.flatMap(({ name, skipped: reasons }) => reasons.map((reason) => `${name}: ${reason}`));
const passed = results.reduce((sum, result) => sum + result.passed, 0);
// In CI everything must run: what was skipped there has not been tested.
const failed = results.reduce((sum, result) => sum + result.failed, 0) + (ci ? skipped.length : 0);

process.stdout.write("\n=== summary\n");
for (const result of results) {
  const state = result.failed > 0 ? "FAILED" : "ok";
  process.stdout.write(
    `${result.name.padEnd(30)} ${state.padEnd(7)} ${String(result.passed).padStart(5)} passed ${String(result.failed).padStart(3)} failed ${result.seconds.toFixed(0).padStart(5)} s\n`,
  );
}
process.stdout.write(
  `suites: ${results.length} run, ${results.filter((result) => result.failed === 0).length} passed, ${results.filter((result) => result.failed > 0).length} failed\n`,
);
for (const { name, failures = [] } of results)
  for (const failure of failures) process.stdout.write(`failed: ${name}: ${failure}\n`);
if (skipped.length === 0) process.stdout.write("skipped: none\n");
for (const reason of skipped) process.stdout.write(`skipped${ci ? " (a failure in CI)" : ""}: ${reason}\n`);
process.stdout.write(
  `time: ${((performance.now() - started) / 60_000).toFixed(1)} min\n\n${passed} passed, ${failed} failed\n`,
);
process.exit(failed === 0 ? 0 : 1);
