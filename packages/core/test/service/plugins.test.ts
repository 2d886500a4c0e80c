import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pluginModule, pluginName } from "../../src/service/aliases.ts";
import { UsageError } from "../../src/service/flags.ts";
import { PluginTable, importPlugins } from "../../src/service/plugins.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "micro-plugins-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function module(name: string, text: string): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, text);
  return file;
}

describe("names of plugins", () => {
  it("become packages, Go's names included", () => {
    expect([
      pluginModule("registry", "etcd"),
      pluginModule("registry", "etcdv3"),
      pluginModule("broker", "segmentio"),
      pluginModule("client", "grpc"),
      pluginModule("server", "grpc"),
      pluginModule("transport", "grpc"),
      pluginModule("cache", "redis"),
      pluginModule("configSource", "etcd"),
    ]).toEqual([
      "@micro/registry-etcd",
      "@micro/registry-etcd",
      "@micro/broker-kafka",
      "@micro/transport-grpc",
      "@micro/transport-grpc",
      "@micro/transport-grpc",
      "@micro/store-redis",
      "@micro/config-sources",
    ]);
    expect([pluginName("registry", "etcdv3"), pluginName("registry", "mdns")]).toEqual(["etcd", "mdns"]);
  });

  it("with a scope or a path stand for themselves", () => {
    for (const name of ["@acme/registry-zk", "./zk.js", "../zk.js", "/opt/zk.js", "file:///opt/zk.js", "C:\\zk.js"])
      expect(pluginModule("registry", name)).toBe(name);
  });
});

const load = (name: string) => new PluginTable().load("registry", name, "MICRO_REGISTRY", ["mdns", "memory"]);

describe("loading a plugin", () => {
  it("takes the descriptor of kind and name out of a module", async () => {
    const file = await module(
      "good.mjs",
      `export const plugins = [
        { kind: "transport", name: "zk", create() { return "transport"; } },
        { kind: "registry", name: "zk", create() { return "registry"; } },
      ];`,
    );
    const table = new PluginTable();
    await table.load("registry", file, "--registry", ["mdns"]);
    expect(table.get("registry", file)?.name).toBe("zk");
    expect(table.get("registry", "other")).toBeUndefined();
  });

  it("reads CommonJS modules as well", async () => {
    const file = await module(
      "good.cjs",
      `module.exports = { plugins: [{ kind: "registry", name: "c", create() {} }] };`,
    );
    expect(await importPlugins(file, "missing")).toHaveLength(1);
  });

  it.each([
    ["none.mjs", `export const other = 1;`, "is no plugin: it must export `plugins`, a list of descriptors"],
    ["empty.mjs", `export const plugins = [];`, "is no plugin"],
    [
      "kind.mjs",
      `export const plugins = [{ kind: "regs", name: "a", create() {} }];`,
      "`kind` must be one of registry",
    ],
    ["name.mjs", `export const plugins = [{ kind: "registry", create() {} }];`, "`name` must be a text"],
    ["create.mjs", `export const plugins = [{ kind: "registry", name: "a" }];`, "`create` must be a function"],
    ["null.mjs", `export const plugins = [null];`, "must be { kind, name, create }"],
    ["throws.mjs", `throw new Error("first line\\nsecond");`, "cannot be imported: first line"],
    [
      "store.mjs",
      `export const plugins = [{ kind: "store", name: "s", create() {} }];`,
      'has no registry to choose; its plugins are: store "s"',
    ],
    [
      "two.mjs",
      `export const plugins = ["a", "b"].map((name) => ({ kind: "registry", name, create() {} }));`,
      'has no registry to choose; its plugins are: registry "a", registry "b"',
    ],
  ])("says in one line what is wrong with %s", async (name, text, message) => {
    const file = await module(name, text);
    const error = await new PluginTable().load("registry", file, "--registry", []).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).not.toContain("\n");
  });

  it("says what to install when it is not there", async () => {
    await expect(load("eureka")).rejects.toThrow(
      'MICRO_REGISTRY: registry "eureka" is neither built in (mdns, memory) nor installed: npm i @micro/registry-eureka',
    );
    await expect(load("@acme/registry-zk")).rejects.toThrow(
      'MICRO_REGISTRY: registry "@acme/registry-zk" cannot be found: npm i @acme/registry-zk',
    );
    await expect(load("./zk.js")).rejects.toThrow('MICRO_REGISTRY: registry "./zk.js" cannot be found');
    await expect(load("a/../../b")).rejects.toThrow('MICRO_REGISTRY: "a/../../b" is not the name of a registry');
  });
});
