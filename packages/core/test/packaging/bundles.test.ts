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
  await npmProject(project, [...tarballs.values()]);
});
afterAll(() => resources.disposeAsync());

describe("a bundled program", () => {
  for (const format of ["esm", "cjs"] as const)
    for (const [name, attempt] of Object.entries(attempts))
      it(`with ${name} starts as ${format}, without anything beside it`, async () => {
        const extension = format === "esm" ? "mjs" : "cjs";
        const source = `${name}-${format}.mjs`;
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
        const bundle = await rolldown({ input: join(project, source), platform: "node", logLevel: "silent" });
        const bundled = join(project, `out-${name}-${format}`);
        await bundle.write({
          dir: bundled,
          format,
          entryFileNames: `main.${extension}`,
          chunkFileNames: `[name].${extension}`,
        });
        await bundle.close();
        // Where no node_modules is above it.
        const elsewhere = join(folder, `run-${name}-${format}`);
        await mkdir(elsewhere);
        for (const file of await readdir(bundled)) await copyFile(join(bundled, file), join(elsewhere, file));
        const ended = await execute(process.execPath, [`main.${extension}`, nowhere], elsewhere, 30_000);
        const code = name === "registry-mdns" ? "bad_request" : expect.stringMatching(/^(unavailable|timeout)$/);
        expect(ended.stderr).toBe("");
        expect(ended.code).toBe(0);
        expect(ended.stdout.trim().split("\n")).toEqual([code, "hello"]);
      });
});
