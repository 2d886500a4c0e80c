/** Tests of users' own, in runners that are not made for ES modules: what docs/testing.md says of them. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { execute, npmProject, packTarballs, temporaryFolder, writeFiles } from "../support/packed.ts";

const resources = new AsyncDisposableStack();
let project: string;

beforeAll(async () => {
  const folder = resources.use(await temporaryFolder("micro-runners-"));
  const tarballs = await packTarballs(folder.path, ["core", "registry-consul"]);
  project = join(folder.path, "app");
  await npmProject(project, [...tarballs.values(), "jest@^30"]);
  await writeFiles(project, { "package.json": JSON.stringify({ name: "app", private: true, type: "commonjs" }) });
});
afterAll(() => resources.disposeAsync());

/** The body of a test; `equal` and `rejects` are the runner's. */
const body = `
  const came = Promise.withResolvers();
  const options = { address: "127.0.0.1:0", logger: silentLogger, spreadMs: 0, exit() {} };
  const service = createService({ ...options, name: "greeter", registry: "memory", args: [], env: {} });
  service.handle("Greeter.Hello", ({ name }) => {
    if (name === "") throw new MicroError("no name", { code: "bad_request" });
    return { msg: "Hello " + name };
  });
  service.handle("Greeter.Echo", (bytes) => bytes);
  service.subscribe("greeted", came.resolve);
  await service.start();
  equal(await service.call("greeter", "Greeter.Hello", { name: "John" }), { msg: "Hello John" });
  const bytes = new Uint8Array([1, 2]);
  equal([...(await service.call("greeter", "Greeter.Echo", bytes, { contentType: "application/octet-stream" }))], [1, 2]);
  const failure = await service.call("greeter", "Greeter.Hello", { name: "" }).catch((error) => error);
  equal([failure instanceof Error, failure instanceof MicroError, failure.code], [true, true, "bad_request"]);
  await service.publish("greeted", { name: "John" });
  equal(await came.promise, { name: "John" });
  await service.stop();

  const byName = createService({ ...options, name: "by-name", args: ["--registry=consul"], env: {} });
  await byName.init();
  equal(byName.registry.name, "consul");
  await byName.stop();
`;
const names = "{ createService, MicroError, silentLogger }";
const jest = (head: string) => `${head}
const equal = (actual, expected) => expect(actual).toEqual(expected);
test("greets", async () => {${body}});
`;

describe("a user's test", () => {
  it.each([
    ["requires", "jest-common.test.js", `const ${names} = require("@micro/core");`],
    ["imports", "jest-module.test.mjs", `import ${names} from "@micro/core";`],
  ])("that %s runs in Jest with --experimental-vm-modules", async (_, file, head) => {
    await writeFiles(project, { [file]: jest(head) });
    const args = ["--experimental-vm-modules", join(project, "node_modules/jest/bin/jest.js")];
    const ended = await execute(process.execPath, [...args, "--testMatch", `**/${file}`], project);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stderr).toContain("1 passed");
    expect(ended.stderr).not.toContain("did not exit");
  });

  it("that requires runs in Node's own runner", async () => {
    const head = `const ${names} = require("@micro/core");
const { deepEqual: equal } = require("node:assert/strict");`;
    await writeFiles(project, {
      "node.test.js": `${head}\nrequire("node:test").test("greets", async () => {${body}});\n`,
    });
    const ended = await execute(process.execPath, ["--test", "node.test.js"], project);
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
  });
});
