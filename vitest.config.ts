import { defineConfig } from "vitest/config";

// Packages import each other by name; tests run on the sources, so that no build stands between an edit and its test.
export default defineConfig({
  resolve: {
    alias: [
      {
        find: /^@micro\/core\/testing$/,
        replacement: new URL("./packages/core/src/testing/index.ts", import.meta.url).pathname,
      },
      { find: /^@micro\/core$/, replacement: new URL("./packages/core/src/index.ts", import.meta.url).pathname },
      {
        find: /^@micro\/registry-mdns$/,
        replacement: new URL("./packages/registry-mdns/src/index.ts", import.meta.url).pathname,
      },
    ],
  },
  test: { include: ["packages/*/test/**/*.test.ts"], testTimeout: 20_000, hookTimeout: 20_000 },
});
