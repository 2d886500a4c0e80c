import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, npmProject, packTarballs, temporaryFolder, workspace, writeFiles } from "../support/packed.ts";
import { codeBlocks } from "../support/markdown.ts";

const packages = (await readdir(join(workspace, "packages"))).toSorted();
const resources = new AsyncDisposableStack();
let tarballs: Map<string, string>;
let project: string;

beforeAll(async () => {
  const folder = resources.use(await temporaryFolder("micro-pack-"));
  tarballs = await packTarballs(folder.path, packages);
  project = join(folder.path, "app");
  await npmProject(project, [...tarballs.values(), "zod@^4.6.7"]);
});
afterAll(() => resources.disposeAsync());

async function installedPackages(folder: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readdir(folder)) {
    if (entry.startsWith(".")) continue;
    if (entry.startsWith("@")) names.push(...(await readdir(join(folder, entry))).map((name) => `${entry}/${name}`));
    else names.push(entry);
  }
  return names;
}

async function sizeOf(path: string): Promise<number> {
  const entry = await stat(path);
  if (!entry.isDirectory()) return entry.size;
  const sizes = await Promise.all((await readdir(path)).map((name) => sizeOf(join(path, name))));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** In bytes. */
interface Cost {
  /** By how much the process grew. */
  readonly resident: number;
  /** What is in use after a collection: the heap, and what it refers to outside. */
  readonly kept: number;
}

/** What one process takes to run `body`, a module. */
async function costOf(body: string): Promise<Cost> {
  const program = `gc();
const before = process.memoryUsage();
${body}
const resident = process.memoryUsage.rss() - before.rss;
gc();
const { heapUsed, external } = process.memoryUsage();
console.log(JSON.stringify({ resident, kept: heapUsed + external - before.heapUsed - before.external }));`;
  const ended = await execute(process.execPath, ["--expose-gc", "--input-type=module", "-e", program], project);
  expect(ended).toMatchObject({ code: 0, stderr: "" });
  return JSON.parse(ended.stdout);
}

const median = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

function bin(tool: string): string {
  return join(workspace, "packages", "core", "node_modules", ".bin", tool);
}

describe("packed tarballs", () => {
  for (const name of packages) {
    it(`${name} passes publint and attw`, async () => {
      const tarball = tarballs.get(name) ?? "";
      const lint = await execute(bin("publint"), ["run", "--strict", tarball], workspace);
      expect(lint.code, lint.stdout + lint.stderr).toBe(0);
      const types = await execute(bin("attw"), [tarball, "--profile", "esm-only"], workspace);
      expect(types.code, types.stdout + types.stderr).toBe(0);
    });
  }

  for (const name of packages) {
    it(`${name} holds what it should, and nothing else`, async () => {
      const listed = await execute("tar", ["-tzf", tarballs.get(name) ?? ""], workspace);
      const files = listed.stdout
        .trim()
        .split("\n")
        .map((file) => file.replace(/^package\//, ""));
      const allowed = /^(?:LICENSE|README\.md|package\.json|dist\/.+\.(?:js|d\.ts)|src\/.+\.ts|protos\/.+\.proto)$/;
      expect(files.filter((file) => !allowed.test(file))).toEqual([]);
      expect(files).toEqual(
        expect.arrayContaining(["LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"]),
      );
      const folder = await readFile(join(workspace, "packages", name, "LICENSE"), "utf8");
      expect(folder).toBe(await readFile(join(workspace, "LICENSE"), "utf8"));
      const manifest = await execute("tar", ["-xzOf", tarballs.get(name) ?? "", "package/package.json"], workspace);
      expect(manifest.stdout).not.toMatch(/workspace:|catalog:/);
      const { exports, main, types } = JSON.parse(manifest.stdout);
      for (const target of [main, types, ...Object.values(exports["."] as object)] as string[])
        expect(files).toContain(target.slice(2));
    });

    it(`${name} is not packed by npm, which would publish what nobody can install`, async () => {
      const packed = await execute("npm", ["pack", "--dry-run"], join(workspace, "packages", name));
      expect(packed.code).not.toBe(0);
      expect(packed.stderr).toContain("use `pnpm pack` or `pnpm publish`");
    });
  }

  it("core installs at most 4 packages and 1.3 MB", async () => {
    await using folder = await temporaryFolder("micro-size-");
    await npmProject(folder.path, [tarballs.get("core") ?? ""]);
    const modules = join(folder.path, "node_modules");
    const names = await installedPackages(modules);
    expect(names.length, names.join(" ")).toBeLessThanOrEqual(4);
    const bytes = (await Promise.all(names.map((name) => sizeOf(join(modules, name))))).reduce(
      (sum, size) => sum + size,
      0,
    );
    expect(bytes).toBeLessThanOrEqual(1_300_000);
  });

  // What importing takes is for the greatest part what V8 takes to parse; `npm run bench` has it in milliseconds.
  it("importing core parses at most 850 kB", async () => {
    const dist = join(project, "node_modules/@micro/core/dist");
    const sizes = await Promise.all(["index.js", "shared.js"].map((file) => sizeOf(join(dist, file))));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(850_000);
    const program = `import { registerHooks } from "node:module";
const loaded = [];
registerHooks({ load: (url, context, next) => (url.startsWith("file:") && loaded.push(url.split("/").at(-1)), next(url, context)) });
await import("@micro/core");
console.log(loaded.join());`;
    const ended = await execute(process.execPath, ["--input-type=module", "-e", program], project);
    expect(ended.stdout.trim().split(",").toSorted()).toEqual(["index.js", "shared.js"]);
  });

  // Of the process's own memory a part is the collector's choice, which shifts by a megabyte with the shape of the files.
  it("importing core keeps at most 4.5 MB, and costs at most 14 MB over bare Node", async () => {
    const bare: number[] = [];
    const core: Cost[] = [];
    for (let round = 0; round < 11; round++) {
      bare.push((await costOf("")).resident);
      core.push(await costOf(`await import("@micro/core");`));
    }
    expect(median(core.map(({ kept }) => kept))).toBeLessThanOrEqual(4_500_000);
    expect(median(core.map(({ resident }) => resident)) - median(bare)).toBeLessThanOrEqual(14_000_000);
  });

  it("a peer dependency on core is published with a version range", async () => {
    const manifest = JSON.parse(
      await readFile(join(project, "node_modules/@micro/registry-mdns/package.json"), "utf8"),
    );
    expect(manifest.peerDependencies["@micro/core"]).toMatch(/^\^\d/);
  });

  it("protoc-gen-micro generates with one command, and what it generates runs", async () => {
    const program = join(project, "node_modules", ".bin", "protoc-gen-micro");
    await writeFiles(project, {
      "proto/greeter.proto": `syntax = "proto3";
package greeter;
import "google/api/annotations.proto";
service Greeter { rpc Hello(Request) returns (Response) { option (google.api.http) = { post: "/hello" body: "*" }; } }
message Request { string name = 1; }
message Response { string msg = 1; }
`,
      "greeter.ts": `import { createService, memoryRegistry, memoryTransport, silentLogger } from "@micro/core";
import { newGreeterService, registerGreeterHandler } from "./gen/greeter.micro.ts";

const options = { registry: memoryRegistry(), transport: memoryTransport(), logger: silentLogger };
const service = createService({ name: "greeter", args: [], handleSignals: false, ...options });
registerGreeterHandler(service, { hello: ({ name }) => ({ msg: \`Hello \${name}\` }) });
await service.start();
console.log((await newGreeterService("greeter", service.client).hello({ name: "John" })).msg);
await service.stop();
`,
    });
    const generated = await execute(program, ["-I", "proto", "greeter.proto", "--out", "gen"], project);
    expect(generated).toMatchObject({ code: 0, stdout: "", stderr: "" });
    expect(await execute("node", ["greeter.ts"], project, 30_000)).toMatchObject({ code: 0, stdout: "Hello John\n" });
  });

  // `node --disallow-code-generation-from-strings`, as hardened images start it. One cannot: its README says so.
  const without = "--disallow-code-generation-from-strings";
  for (const name of packages) {
    it(`${name} ${name === "registry-etcd" ? "says that it does not load" : "loads"} where no code is made from strings`, async () => {
      const program = `await import("@micro/${name}"); console.log("loaded");`;
      const ended = await execute(process.execPath, [without, "--input-type=module", "-e", program], project);
      if (name !== "registry-etcd") return expect(ended).toEqual({ code: 0, stdout: "loaded\n", stderr: "" });
      expect(ended.stderr).toContain("Code generation from strings disallowed");
      expect(await readFile(join(workspace, "packages", name, "README.md"), "utf8")).toContain(without);
    });
  }

  it("calls, streams, events, generated messages and validators work where no code is made from strings", async () => {
    await writeFiles(project, {
      "strings.proto": `syntax = "proto3";
package strings;
service Echo { rpc Say(Message) returns (Message); rpc Count(Message) returns (stream Message); }
message Message { string text = 1; map<string, int64> counts = 2; oneof kind { bool yes = 3; Message inner = 4; } }
`,
      "strings.ts": `import { createService, defineService, memoryRegistry, silentLogger, unary } from "@micro/core";
import { z } from "zod";
import { Echo } from "./strings/strings.micro.ts";

const Users = defineService("strings", {
  add: unary({ request: z.object({ name: z.string().min(1) }), response: z.object({ id: z.number() }) }),
});
const options = { registry: memoryRegistry(), logger: silentLogger, address: "127.0.0.1:0", args: [], env: {} };
const service = createService({ name: "strings", handleSignals: false, ...options });
service.handle(Echo, {
  say: (message) => message,
  async *count(message) {
    yield message;
    yield message;
  },
});
service.handle(Users, { add: () => ({ id: 7 }) });
const came = Promise.withResolvers<unknown>();
service.subscribe("said", (event) => came.resolve(event));
await service.start();

const echo = service.client(Echo, { service: "strings" });
const message = { text: "a", counts: { b: 2n }, kind: { $case: "yes" as const, value: true } };
console.log(await echo.say(message));
console.log(await service.call("strings", "Echo.Say", { text: "json", inner: { text: "b" } }));
for await (const { text } of echo.count(message)) console.log(text);
const users = service.client(Users);
console.log(await users.add({ name: "a" }), await users.add({ name: "" }).catch((error) => error.code));
await service.publish("said", { text: "event" });
console.log(await came.promise);
await service.stop();
`,
    });
    const generator = join(project, "node_modules/@micro/protoc-gen-micro/dist/main.js");
    const generated = await execute(
      process.execPath,
      [without, generator, "strings.proto", "--out", "strings"],
      project,
    );
    expect(generated).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(await execute(process.execPath, [without, "strings.ts"], project, 30_000)).toEqual({
      code: 0,
      stdout: `{ text: 'a', counts: { b: 2n }, kind: { '$case': 'yes', value: true } }
{ text: 'json', inner: { text: 'b' } }
a
a
{ id: 7 } bad_request
{ text: 'event' }
`,
      stderr: "",
    });
  });

  it("loads with import and with require, as one copy", async () => {
    await writeFiles(project, {
      "esm.mjs": `import { createService, errors } from "@micro/core";
import { mdnsRegistry } from "@micro/registry-mdns";
import * as testing from "@micro/testing";
console.log(typeof createService, typeof mdnsRegistry, typeof testing.registryConformance, errors.notFound("a", "b").statusCode);`,
      "common.cjs": `const core = require("@micro/core");
const { plugins } = require("@micro/registry-mdns");
import("@micro/core").then((imported) => console.log(imported.createService === core.createService, plugins[0].name));`,
    });
    expect(await execute("node", ["esm.mjs"], project)).toMatchObject({
      code: 0,
      stdout: "function function function 404\n",
    });
    expect(await execute("node", ["common.cjs"], project)).toMatchObject({ code: 0, stdout: "true mdns\n" });
  });

  it("the README's first program runs in an empty project and type-checks with strict and skipLibCheck off", async () => {
    const blocks = codeBlocks(await readFile(join(workspace, "README.md"), "utf8"));
    const program = (file: string) => blocks.find((block) => block.code.startsWith(`// ${file}\n`))?.code ?? "";
    await writeFiles(project, {
      "service.ts": program("service.ts"),
      "client.ts": program("client.ts"),
      "tsconfig.json": JSON.stringify({
        compilerOptions: {
          strict: true,
          skipLibCheck: false,
          module: "nodenext",
          target: "es2024",
          lib: ["es2024", "esnext.disposable"],
          types: ["node"],
          noEmit: true,
        },
        files: ["service.ts", "client.ts"],
      }),
    });
    const manifest = JSON.parse(await readFile(join(workspace, "package.json"), "utf8"));
    const { typescript, "@types/node": nodeTypes } = manifest.devDependencies;
    await npmProject(project, [...tarballs.values(), `typescript@${typescript}`, `@types/node@${nodeTypes}`]);
    const check = await execute(join(project, "node_modules/.bin/tsc"), ["-p", "."], project);
    expect(check.code, check.stdout).toBe(0);

    const { spawn } = await import("node:child_process");
    const service = spawn(process.execPath, ["service.ts"], { cwd: project, stdio: ["ignore", "ignore", "pipe"] });
    try {
      await new Promise<void>((resolve, reject) => {
        let log = "";
        service.stderr.on("data", (chunk: Buffer) => {
          log += chunk.toString();
          if (log.includes("Registering node")) resolve();
        });
        service.once("exit", () => reject(new Error(`the service ended early:\n${log}`)));
      });
      const client = await execute(process.execPath, ["client.ts"], project, 30_000);
      expect(client.stderr).toBe("");
      expect(client).toMatchObject({ code: 0, stdout: "Hello John\n1\n2\n3\n" });
      const ended = new Promise<number | null>((resolve) => service.once("exit", resolve));
      service.kill("SIGTERM");
      expect(await ended).toBe(0);
    } finally {
      service.kill("SIGKILL");
    }
  });
});
