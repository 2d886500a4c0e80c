import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// Packages import each other by name; tests run on the sources, so that no build stands between an edit and its test.
const resolve = {
  alias: [
    { find: /^@micro\/core\/proto$/, replacement: source("./packages/core/src/proto/index.ts") },
    ...readdirSync(source("./packages")).map((name) => ({
      find: new RegExp(`^@micro/${name}$`),
      replacement: source(`./packages/${name}/src/index.ts`),
    })),
  ],
};
const packaging = "**/test/packaging/**/*.test.ts";
const slow = "**/*.slow.test.ts";
const faults = "**/*.faults.test.ts";
// `npm run test:quick` leaves out what waits for real time: look-up windows, time limits, fuzzing, a thousand handshakes;
// and what needs a server.
const waiting =
  process.env["MICRO_TEST_QUICK"] === "1"
    ? [
        "**/*conformance.test.ts",
        "**/*fuzz.test.ts",
        "**/mdns.test.ts",
        "**/http-server.test.ts",
        "packages/broker-rabbitmq/**",
        "packages/registry-{consul,etcd}/**",
        "packages/broker-kafka/test/!(options).test.ts",
      ]
    : [];
const limits = { testTimeout: 30_000, hookTimeout: 30_000 };

export default defineConfig({
  test: {
    // Tests wait more than they work: for windows, timeouts, servers.
    maxWorkers: availableParallelism() + 1,
    projects: [
      {
        resolve,
        test: {
          name: "unit",
          include: ["packages/*/test/**/*.test.ts"],
          exclude: [packaging, slow, faults, ...waiting, "**/node_modules/**"],
          ...limits,
        },
      },
      // Whole processes under load, one file at a time.
      {
        resolve,
        test: { name: "slow", include: [`packages/*/test/${slow}`], fileParallelism: false, testTimeout: 120_000 },
      },
      // Real servers that are killed, frozen, cut off and emptied: minutes, most of them spent waiting.
      {
        resolve,
        test: { name: "faults", include: [`packages/*/test/${faults}`], testTimeout: 180_000 },
      },
      // Packed tarballs in empty folders.
      {
        resolve,
        test: {
          name: "packaging",
          include: [`packages/*/test/packaging/**/*.test.ts`],
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
});
