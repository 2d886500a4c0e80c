import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, npmProject, packTarballs, temporaryFolder, workspace, writeFiles } from "../support/packed.ts";

const resources = new AsyncDisposableStack();
let folder: string;

/** TypeScript's versions by name: the newest of the line before, and ours. */
const versions = { "typescript-5": "npm:typescript@~5.9.0", "typescript-7": "npm:typescript@^7.0.2" } as const;

beforeAll(async () => {
  const temporary = resources.use(await temporaryFolder("micro-typescript-"));
  const tarballs = await packTarballs(temporary.path, ["core", "registry-mdns", "testing"]);
  folder = join(temporary.path, "app");
  const { devDependencies } = JSON.parse(await readFile(join(workspace, "package.json"), "utf8"));
  await npmProject(folder, [
    ...tarballs.values(),
    ...Object.entries(versions).map(([name, version]) => `${name}@${version}`),
    `@types/node@${devDependencies["@types/node"]}`,
  ]);
});
afterAll(() => resources.disposeAsync());

const program = `import { createService, type ServiceOptions } from "@micro/core";
import { packAny } from "@micro/core/proto";
import { registryConformance } from "@micro/testing";
import { mdnsRegistry } from "@micro/registry-mdns";
const options: ServiceOptions = { name: "greeter", registry: mdnsRegistry() };
const service = createService(options);
service.handle("Greeter", { hello: ({ name }: { name: string }) => ({ msg: name }) });
// @ts-expect-error -- the types are there, and no any
service.name = 5;
// @ts-expect-error -- the same of the other entry
packAny.length = "1";
// @ts-expect-error -- and of another package
registryConformance.length = "1";
export const started: Promise<void> = service.start();
`;

/** `module` and `moduleResolution`, for a program that is ESM or CommonJS; what the README says of them. */
const settings: readonly [
  compiler: keyof typeof versions,
  type: "module" | "commonjs",
  options: object,
  works: boolean,
][] = [
  ["typescript-7", "module", { module: "nodenext" }, true],
  ["typescript-7", "commonjs", { module: "nodenext" }, true],
  ["typescript-7", "module", { module: "esnext", moduleResolution: "bundler" }, true],
  ["typescript-5", "module", { module: "nodenext" }, true],
  ["typescript-5", "commonjs", { module: "nodenext" }, true],
  ["typescript-5", "module", { module: "node16" }, true],
  ["typescript-5", "module", { module: "node18" }, true],
  ["typescript-5", "commonjs", { module: "node20" }, true],
  ["typescript-5", "module", { module: "esnext", moduleResolution: "bundler" }, true],
  ["typescript-5", "commonjs", { module: "commonjs", moduleResolution: "node10", esModuleInterop: true }, true],
  // These know no require() of ES modules, which Node has had since 22.
  ["typescript-5", "commonjs", { module: "node16" }, false],
  ["typescript-5", "commonjs", { module: "node18" }, false],
];

describe("a strict program", () => {
  it.each(settings)("with %s, %s and %j: %s", async (compiler, type, options, works) => {
    await writeFiles(folder, {
      "package.json": JSON.stringify({
        ...JSON.parse(await readFile(join(folder, "package.json"), "utf8")),
        type,
      }),
      "program.ts": program,
      "tsconfig.json": JSON.stringify({
        compilerOptions: {
          strict: true,
          skipLibCheck: false,
          target: "es2022",
          lib: ["es2024", "esnext.disposable"],
          types: ["node"],
          noEmit: true,
          ...options,
        },
        files: ["program.ts"],
      }),
    });
    const manifest = JSON.parse(await readFile(join(folder, "node_modules", compiler, "package.json"), "utf8"));
    const tsc = join(folder, "node_modules", compiler, (manifest.bin as { tsc: string }).tsc);
    const check = await execute(process.execPath, [tsc, "-p", "."], folder);
    if (works) expect(check.code, check.stdout + check.stderr).toBe(0);
    else expect(check.stdout).toContain("TS1479");
  });
});
