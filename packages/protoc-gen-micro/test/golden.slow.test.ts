import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { typeCheck } from "./support/compiled.ts";
import { command, folder, workspace } from "./support/generator.ts";

const run = promisify(execFile);
const resources = new AsyncDisposableStack();
let work: string;

/** .proto files as npm packages carry them. */
const packages = ["google-proto-files@6.0.1", "@grpc/grpc-js-xds@1.14.1"];
/** The same of Go modules. */
const goPackages = {
  apimachinery: "k8s.io/apimachinery@v0.37.2",
  containerd: "github.com/containerd/containerd/api@v1.12.0",
  etcd: "go.etcd.io/etcd/api/v3@v3.7.3",
  gateway: "github.com/grpc-ecosystem/grpc-gateway/v2@v2.33.0",
  kubernetes: "k8s.io/api@v0.37.2",
};

const googleapis = [
  "google/api/annotations.proto",
  "google/api/http.proto",
  "google/api/client.proto",
  "google/api/resource.proto",
  "google/longrunning/operations.proto",
  "google/pubsub/v1/pubsub.proto",
  "google/pubsub/v1/schema.proto",
];
/** Folders of which every file is generated. */
const googleFolders = [
  "google/bigtable/admin/v2",
  "google/bigtable/v2",
  "google/cloud/bigquery/storage/v1",
  "google/firestore/admin/v1",
  "google/firestore/v1",
  "google/pubsub/v1",
  "google/spanner/admin/database/v1",
  "google/spanner/admin/instance/v1",
  "google/spanner/v1",
];
const envoy = [
  "envoy/config/bootstrap/v3/bootstrap.proto",
  "envoy/config/cluster/v3/cluster.proto",
  "envoy/config/listener/v3/listener.proto",
  "envoy/config/route/v3/route_components.proto",
  "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
  "envoy/service/cluster/v3/cds.proto",
  "envoy/service/discovery/v3/ads.proto",
  "envoy/service/status/v3/csds.proto",
];

beforeAll(async () => {
  const temporary = resources.use(await folder({ "package.json": `{ "type": "module" }` }));
  work = temporary.path;
  await Promise.all(
    packages.map(async (name) => {
      const target = join(work, "protos", name.split("@").at(-2)!.split("/").at(-1)!);
      await mkdir(target, { recursive: true });
      await run("npm", ["pack", "--silent", "--prefer-offline", name], { cwd: target });
      const [tarball = ""] = await readdir(target);
      await run("tar", ["-xzf", tarball], { cwd: target });
    }),
  );
  // What that package has of protoc-gen-validate is older than what it has of Envoy, which uses an option of later ones.
  const protocol = join(work, "protos/grpc-js-xds/package/deps/envoy-api/envoy/config/core/v3/protocol.proto");
  await writeFile(protocol, (await readFile(protocol, "utf8")).replaceAll(" ignore_empty: true", ""));
}, 120_000);
afterAll(() => resources.disposeAsync());

const google = (): string[] => ["-I", join(work, "protos/google-proto-files/package")];

function envoyFolders(): string[] {
  const deps = join(work, "protos/grpc-js-xds/package/deps");
  return ["envoy-api", "xds", "googleapis", "protoc-gen-validate"].flatMap((name) => ["-I", join(deps, name)]);
}

/**
 * What a test that generates is given, in milliseconds: far above the second or two it takes, so that only a generator whose work
 * grows with the square of its input, or never ends, reaches it. Speed is measured in `bench/`.
 */
const endless = 120_000;

function withoutComments(code: string): string {
  return code.replaceAll(/^ *\/\*\*[\s\S]*?\*\/\n/gm, "");
}

describe("real .proto files", () => {
  it("googleapis: the stubs are the known ones, everything type-checks, a second run changes nothing", async () => {
    const out = join(work, "googleapis");
    expect(await command(...google(), ...googleapis, "--out", out)).toMatchObject({ code: 0, errors: "" });
    for (const name of ["longrunning/operations", "pubsub/v1/pubsub", "pubsub/v1/schema"]) {
      const stubs = await readFile(join(out, "google", `${name}.micro.ts`), "utf8");
      await expect(stubs).toMatchFileSnapshot(`golden/${name.split("/").at(-1)}.micro.ts.txt`);
    }
    expect(await typeCheck(work, "googleapis")).toBe("");
    expect(await command(...google(), ...googleapis, "--out", out, "--check")).toMatchObject({ code: 0 });
  });

  it("core's well-known types are what is generated from Google's files, but for comments, which differ from one protoc to the next", async () => {
    const kept = join(workspace, "packages/core/src/proto/gen");
    const names = await readdir(kept);
    const protos = names.map((name) => `google/protobuf/${basename(name, ".ts")}.proto`);
    const out = join(work, "well-known");
    const args = [...google(), ...protos, "--emit", "messages", "--runtime", "../runtime.ts", "--out", out];
    expect(await command(...args)).toMatchObject({ code: 0, errors: "" });
    for (const name of names) {
      const [generated, current] = await Promise.all(
        [join(out, "google/protobuf"), kept].map(async (place) =>
          withoutComments(await readFile(join(place, name), "utf8")),
        ),
      );
      expect(current, name).toBe(generated);
    }
  });

  it("Envoy: everything is generated and type-checks", { timeout: endless }, async () => {
    const out = join(work, "envoy");
    expect(await command(...envoyFolders(), ...envoy, "--out", out)).toMatchObject({ code: 0, errors: "" });
    expect(await typeCheck(work, "envoy")).toBe("");
  });

  it("Spanner, Bigtable, BigQuery, Firestore and Pub/Sub: every file is generated and type-checks", async () => {
    const root = join(work, "protos/google-proto-files/package");
    const found = await Promise.all(
      googleFolders.map(async (name) => (await protosBelow(join(root, name))).map((file) => `${name}/${file}`)),
    );
    expect(found.flat().length).toBeGreaterThan(50);
    const { code, errors } = await command(...google(), ...found.flat(), "--out", join(work, "google"));
    expect(code, errors).toBe(0);
    // BigQuery's storage has one route for several rpcs.
    for (const line of errors.split("\n"))
      expect(line).toMatch(/^google\/cloud\/bigquery\/storage\/v1\/.*: warning: .* is a route of rpc .* already/);
    expect(await typeCheck(work, "google")).toBe("");
  });

  it("Kubernetes, containerd, etcd: every file is generated and type-checks", async (context) => {
    const sets = await orReason(goSets);
    // Where there is no Go, or no way to its modules, there is nothing to read; `sets` says which.
    if (typeof sets === "string") context.skip(sets);
    else {
      for (const [name, { args, files, holds }] of Object.entries(sets)) {
        expect(files.length, name).toBe(holds);
        const out = join(work, "go-sets", name);
        expect(await command(...args, ...files, "--out", out), name).toMatchObject({ code: 0, errors: "" });
      }
      expect(await typeCheck(work, "go-sets")).toBe("");
    }
  });

  it(
    "a service with a thousand rpcs and two thousand messages in a file of 4 MB is generated",
    { timeout: endless },
    async () => {
      const args = [...google(), "google/cloud/compute/v1/compute.proto", "--out", join(work, "compute")];
      expect(await command(...args)).toMatchObject({ code: 0, errors: "" });
    },
  );

  it("go-micro's own: all of them are generated and type-check", async (context) => {
    const modules = await goModules();
    // Where there is no Go, or no way to its modules, there is nothing to read; `modules` says which.
    if (typeof modules === "string") context.skip(modules);
    else {
      for (const [index, module] of modules.entries()) {
        const files = (await readdir(module, { recursive: true })).filter(
          (name) => name.endsWith(".proto") && !name.includes("/examples/") && !name.startsWith("examples"),
        );
        expect(files.length).toBeGreaterThan(5);
        for (const file of files) {
          // Each on its own: several define the same names, as programs of their own.
          const out = join(work, "go-micro", String(index), file.replaceAll(/\W/g, "_"));
          const { code, errors } = await command("-I", module, join(module, file), "--out", out);
          expect(code, `${file}: ${errors}`).toBe(0);
        }
      }
      expect(await typeCheck(work, "go-micro")).toBe("");
    }
  });
});

/** Folders of go-micro's modules, as the interop suite has them; the reason where there are none. */
function goModules(): Promise<string[] | string> {
  const interop = join(workspace, "interop/go");
  return orReason(async () => [
    await goFolder(join(interop, "v2"), "github.com/micro/go-micro/v2"),
    await goFolder(join(interop, "v5"), "go-micro.dev/v5"),
  ]);
}

/** Where a Go module's files are, downloaded if no other suite has asked for them yet. */
async function goFolder(cwd: string, module: string): Promise<string> {
  const go = process.env["GO"] ?? "go";
  const env = { ...process.env, GOFLAGS: "", GOWORK: "off", PATH: `${process.env["PATH"]}:/usr/local/go/bin` };
  const download = () => run(go, ["mod", "download", "-json", module], { cwd, env, timeout: 100_000 });
  // A download may fail for a moment.
  const { stdout } = await download().catch(download);
  const { Dir } = JSON.parse(stdout) as { Dir?: string };
  if (!Dir) throw new Error(`go mod download says no folder for ${module}`);
  return Dir;
}

/** Arguments and files of a run of the generator, and how many files there are known to be. */
interface GoSet {
  readonly args: readonly string[];
  readonly files: readonly string[];
  readonly holds: number;
}

/** Sets of .proto files of Go modules, each below the folder by whose name its files import each other. */
async function goSets(): Promise<Record<string, GoSet>> {
  const found = Object.entries(goPackages).map(async ([name, module]) => [name, await goFolder(work, module)]);
  const modules = Object.fromEntries(await Promise.all(found)) as Record<keyof typeof goPackages, string>;
  const root = join(work, "protos/go");
  const place = async (folderName: string, module: string): Promise<void> => {
    await mkdir(join(root, folderName, ".."), { recursive: true });
    await symlink(module, join(root, folderName), "junction");
  };
  await place("k8s.io/api", modules.kubernetes);
  await place("k8s.io/apimachinery", modules.apimachinery);
  await place("etcd/api", modules.etcd);
  const below = async (folderName: string): Promise<string[]> =>
    (await protosBelow(join(root, folderName))).map((file) => `${folderName}/${file}`);

  const kubernetes = [...(await below("k8s.io/api")), ...(await below("k8s.io/apimachinery/pkg"))];
  const containerd = await protosBelow(modules.containerd);
  // `raft_internal.proto` imports `rpc.proto` by another name than the rest: with both there are two of each message.
  const etcd = (await below("etcd/api")).filter((name) => !name.endsWith("rpc.proto"));
  const etcdRoots = ["-I", root, "-I", join(root, "etcd/api/etcdserverpb"), "-I", modules.gateway, ...google()];
  return {
    kubernetes: { args: ["-I", root], files: kubernetes, holds: 67 },
    containerd: { args: ["-I", modules.containerd, ...google()], files: containerd, holds: 44 },
    etcd: { args: etcdRoots, files: etcd, holds: 6 },
  };
}

/** What `get` finds; the reason where Go, or the way to its modules, is missing. */
async function orReason<T>(get: () => Promise<T>): Promise<T | string> {
  try {
    return await get();
  } catch (error) {
    return `Go modules are not here: ${(error as Error).message.split("\n")[0]}`;
  }
}

/** Every .proto file in a folder and those below, by their names in it. */
async function protosBelow(folderName: string): Promise<string[]> {
  return (await readdir(folderName, { recursive: true })).filter((name) => name.endsWith(".proto")).toSorted();
}
