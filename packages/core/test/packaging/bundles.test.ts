/** Programs that are bundled into one file, and run where nothing is installed. */
import { once } from "node:events";
import { copyFile, mkdir, readdir } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, npmProject, packTarballs, temporaryFolder, writeFiles } from "../support/packed.ts";

/** What each package is asked to do at an address where nobody listens. */
const attempts: Readonly<Record<string, string>> = {
  "registry-mdns": `await piece.register({ name: "a", version: "", metadata: {}, endpoints: [], nodes: [{ id: "a", address: "nowhere", metadata: {} }] })`,
  "registry-etcd": `await piece.getService("greeter", { timeoutMs: 2_000 })`,
  "registry-consul": `await piece.getService("greeter", { timeoutMs: 2_000 })`,
  "broker-nats": `await piece.connect({ timeoutMs: 2_000 })`,
  "broker-kafka": `await piece.connect({ timeoutMs: 2_000 })`,
  "broker-rabbitmq": `await piece.connect({ timeoutMs: 2_000 })`,
};

const resources = new AsyncDisposableStack();
let folder: string;
let nowhere: string;
let project: string;

beforeAll(async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  nowhere = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  server.close();
  folder = resources.use(await temporaryFolder("micro-bundle-")).path;
  const tarballs = await packTarballs(folder, ["core", ...Object.keys(attempts)]);
  project = join(folder, "app");
  await npmProject(project, [...tarballs.values(), "esbuild@~0.28.2"]);
});
afterAll(() => resources.disposeAsync());

/** Bundle a program into a folder. @returns what the bundler warns of */
type Bundle = (source: string, target: string) => Promise<string>;

const withRolldown =
  (format: "esm" | "cjs", extension: string): Bundle =>
  async (source, target) => {
    const bundle = await rolldown({ input: source, platform: "node", logLevel: "silent" });
    await bundle.write({
      dir: target,
      format,
      entryFileNames: `main.${extension}`,
      chunkFileNames: `[name].${extension}`,
    });
    await bundle.close();
    return "";
  };

/** Its defaults for Node, as most people type them: CommonJS, where `import.meta` is empty. */
const withEsbuild: Bundle = async (source, target) => {
  const args = [source, "--bundle", "--platform=node", `--outfile=${join(target, "main.cjs")}`, "--log-level=warning"];
  const ended = await execute(join(project, "node_modules/.bin/esbuild"), args, project);
  expect(ended.code, ended.stderr).toBe(0);
  return ended.stderr;
};

/** As the issue that everybody finds has it: what is bundled of CommonJS asks for built-in modules with `require`. */
const banner = 'import { createRequire } from "module"; const require = createRequire(import.meta.url);';

const withEsbuildToEsm: Bundle = async (source, target) => {
  const out = `--outfile=${join(target, "main.mjs")}`;
  const plain = /registry-(?:mdns|consul)/.test(source) ? [] : [`--banner:js=${banner}`];
  const args = [source, "--bundle", "--platform=node", "--format=esm", ...plain, out, "--log-level=warning"];
  const ended = await execute(join(project, "node_modules/.bin/esbuild"), args, project);
  expect(ended.code, ended.stderr).toBe(0);
  return ended.stderr;
};

const bundlers: Readonly<Record<string, { readonly extension: string; readonly bundle: Bundle }>> = {
  "rolldown-esm": { extension: "mjs", bundle: withRolldown("esm", "mjs") },
  "rolldown-cjs": { extension: "cjs", bundle: withRolldown("cjs", "cjs") },
  "esbuild-cjs": { extension: "cjs", bundle: withEsbuild },
  "esbuild-esm": { extension: "mjs", bundle: withEsbuildToEsm },
};

describe("a bundled program", () => {
  for (const [bundler, { extension, bundle }] of Object.entries(bundlers))
    for (const [name, attempt] of Object.entries(attempts))
      it(`with ${name} starts as ${bundler} makes it, without anything beside it`, async () => {
        const source = `${name}-${bundler}.mjs`;
        await writeFiles(project, {
          [source]: `import { createService, memoryRegistry, memoryTransport, silentLogger } from "@micro/core";
import { plugins } from "@micro/${name}";
const run = async () => {
  const tls = {};
  const piece = plugins[0].create({ name: "app", addresses: [process.argv[2]], logger: silentLogger, tls });
  try {
    ${attempt};
    console.log("it succeeded");
  } catch (error) {
    console.log(error.code);
  }
  await piece[Symbol.asyncDispose]();
  const service = createService({ name: "greeter", registry: memoryRegistry(), transport: memoryTransport(), logger: silentLogger, args: [], env: {} });
  service.handle("Greeter.Hello", () => ({ msg: "hello" }));
  await service.start();
  console.log((await service.call("greeter", "Greeter.Hello", {})).msg);
  await service.stop();
};
run().catch((error) => { console.error(error); process.exitCode = 1; });
`,
        });
        const bundled = join(project, `out-${name}-${bundler}`);
        expect(await bundle(join(project, source), bundled)).toBe("");
        // Where no node_modules is above it.
        const elsewhere = join(folder, `run-${name}-${bundler}`);
        await mkdir(elsewhere);
        for (const file of await readdir(bundled)) await copyFile(join(bundled, file), join(elsewhere, file));
        const ended = await execute(process.execPath, [`main.${extension}`, nowhere], elsewhere, 30_000);
        const code = name === "registry-mdns" ? "bad_request" : expect.stringMatching(/^(unavailable|timeout)$/);
        expect(ended.stderr).toBe("");
        expect(ended.code).toBe(0);
        expect(ended.stdout.trim().split("\n")).toEqual([code, "hello"]);
      });
});
