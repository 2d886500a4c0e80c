import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CodeGeneratorRequestSchema, CodeGeneratorResponseSchema } from "@bufbuild/protobuf/wkt";
import { chmod } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { compile } from "../src/compiler.ts";
import { runPlugin } from "../src/plugin.ts";
import { typeCheck } from "./support/compiled.ts";
import { bufProgram, execute, filesBelow, folder, generated, main, protos } from "./support/generator.ts";

async function answerTo(
  parameter: string,
  asked = "kinds.proto",
): Promise<{ error: string; files: Record<string, string>; warnings: string[] }> {
  const { set } = await compile({ files: ["kinds.proto"], protoPaths: [protos] });
  const request = create(CodeGeneratorRequestSchema, {
    fileToGenerate: [asked],
    protoFile: set.file.map((file) => (file.name === "kinds.proto" ? { ...file, name: asked } : file)),
    parameter,
  });
  const warnings: string[] = [];
  const bytes = await runPlugin(toBinary(CodeGeneratorRequestSchema, request), (text) => void warnings.push(text));
  const { error, file } = fromBinary(CodeGeneratorResponseSchema, bytes);
  return { error, warnings, files: Object.fromEntries(file.map(({ name, content }) => [name, content])) };
}

describe("the plugin", () => {
  it("answers with the stubs of the files it is asked for, the same as the command's", async () => {
    const { error, files } = await answerTo("emit=stubs");
    expect(error).toBe("");
    expect(files).toEqual({ "kinds.micro.ts": (await filesBelow(generated))["kinds.micro.ts"] });
  });

  it("writes the messages as well, of the files it is asked for", async () => {
    const { files } = await answerTo("");
    const committed = await filesBelow(generated);
    expect(Object.keys(files)).toEqual(["kinds.micro.ts", "kinds.ts"]);
    for (const [name, content] of Object.entries(files)) expect(content).toBe(committed[name]);
  });

  it("keeps the name of a file inside of a comment, in stubs as in messages", async () => {
    const { files } = await answerTo("", "kinds\nthrow 1; \u2028.proto");
    const texts = Object.values(files);
    expect(texts).toHaveLength(2);
    for (const text of texts) expect(text).toContain("\n// source: kinds throw 1;  .proto\n\n");
  });

  it("tells protoc of unknown options and wrong values, with the valid ones", async () => {
    expect((await answerTo("emit=stubs,colour=red")).error).toMatch(
      /^unknown option "colour"; valid ones are emit=all\|messages\|stubs, .*M<file\.proto>=<module>$/,
    );
    expect((await answerTo("int64=float")).error).toMatch(/one of bigint, number, string, long/);
  });

  it("names the option that may be meant, and refuses what ts-proto does not read", async () => {
    expect((await answerTo("import_extention=.js")).error).toContain(
      `"import_extention" (did you mean import_extension?)`,
    );
    expect((await answerTo("ts_proto_opt=nonsense=1")).error).toContain("needs messages=ts-proto");
    expect((await answerTo("messages=ts-proto,ts_proto_opt=nonsense=1")).error).toBe("ts-proto has no option nonsense");
  });

  it.each([
    ["nothing", ""],
    ["what is no request", "garbage\u0000\u00ff"],
    ["a .proto file", `syntax = "proto3"; message A {}`],
  ])("%s on standard input: one line, exit code 1", async (_, input) => {
    await using work = await folder({ input });
    const ended = await execute("/bin/sh", ["-c", `"$0" "$1" < input`, process.execPath, main], work.path);
    expect(ended).toMatchObject({ code: 1, out: "" });
    expect(ended.errors).toMatch(
      /^protoc-gen-micro: .*no request of a compiler.*: protoc and buf start this program .*\n$/,
    );
  });

  it("a request that lacks what its files import: an answer, no stack", async () => {
    const request = create(CodeGeneratorRequestSchema, {
      fileToGenerate: ["a.proto"],
      protoFile: [{ name: "a.proto", syntax: "proto3", dependency: ["b.proto"] }],
    });
    const bytes = await runPlugin(toBinary(CodeGeneratorRequestSchema, request), () => {});
    expect(fromBinary(CodeGeneratorResponseSchema, bytes).error).toMatch(
      /^the files of the request are incomplete: .*b\.proto/,
    );
  });

  it("imports messages from the modules that M names", async () => {
    const { files } = await answerTo("Mother/shared.proto=@acme/shared,import_extension=.js");
    expect(files["kinds.micro.ts"]).toContain(`import { Shared, Shared_Nested } from "@acme/shared";`);
    expect(files["kinds.micro.ts"]).toContain(`from "./kinds.js";`);
  });

  it("works in `buf generate` beside ts-proto, both as local plugins", async () => {
    const tsProto = join(
      dirname(createRequire(import.meta.url).resolve("ts-proto/package.json")),
      "protoc-gen-ts_proto",
    );
    const options = "esModuleInterop=true,outputServices=none,enumsAsLiterals=true,importSuffix=.ts,forceLong=bigint";
    await using work = await folder({
      "greeter.proto": `syntax = "proto3"; package greeter; message A {} service Greeter { rpc Hello(A) returns (A); }`,
      "buf.yaml": "version: v2\n",
      "buf.gen.yaml": `version: v2
plugins:
  - local: [${JSON.stringify(process.execPath)}, ${JSON.stringify(tsProto)}]
    out: gen
    opt: ${options}
  - local: [${JSON.stringify(process.execPath)}, ${JSON.stringify(main)}]
    out: gen
    opt: emit=stubs,messages=ts-proto
`,
    });
    const ended = await execute(bufProgram(), ["generate"], work.path);
    expect(ended.code, ended.errors).toBe(0);
    expect(Object.keys(await filesBelow(join(work.path, "gen")))).toEqual(["greeter.micro.ts", "greeter.ts"]);
  });

  it("is all that `buf generate` needs, for files in several folders", async () => {
    await using work = await folder({
      "a/one.proto": `syntax = "proto3"; package a; import "b/two.proto"; import "google/protobuf/timestamp.proto";
message One { b.Two two = 1; google.protobuf.Timestamp at = 2; } service S { rpc Get(One) returns (b.Two); }`,
      "b/two.proto": `syntax = "proto3"; package b; message Two { string text = 1; }`,
      "buf.yaml": "version: v2\n",
      "buf.gen.yaml": `version: v2
plugins:
  - local: [${JSON.stringify(process.execPath)}, ${JSON.stringify(main)}]
    out: gen
    opt: import_extension=.ts
`,
    });
    const ended = await execute(bufProgram(), ["generate"], work.path);
    expect(ended).toMatchObject({ code: 0, errors: "" });
    expect(Object.keys(await filesBelow(join(work.path, "gen")))).toEqual(["a/one.micro.ts", "a/one.ts", "b/two.ts"]);
    expect(await typeCheck(work.path, "gen")).toBe("");
  });

  it("is started by protoc by its name, and its errors end protoc with exit code 1", async () => {
    await using work = await folder({
      "protoc-gen-micro": `#!/bin/sh\nexec ${JSON.stringify(process.execPath)} ${JSON.stringify(main)}\n`,
      "greeter.proto": `syntax = "proto3"; package greeter; message A {} service Greeter { rpc hello(A) returns (A); }`,
    });
    await chmod(join(work.path, "protoc-gen-micro"), 0o755);
    // buf's replacement, which starts plugins as protoc does.
    const protoc = (...args: string[]) => execute(bufProgram(), ["alpha", "protoc", "-I", ".", ...args], work.path);
    const plugin = "--plugin=protoc-gen-micro=./protoc-gen-micro";
    const ended = await protoc(plugin, "--micro_out=.", "greeter.proto");
    expect(ended.code, ended.errors).toBe(0);
    expect(ended.errors).toContain("warning: rpc hello");
    expect(Object.keys(await filesBelow(work.path))).toContain("greeter.micro.ts");
    const failed = await protoc(plugin, "--micro_out=.", "--micro_opt=colour=red", "greeter.proto");
    expect(failed.code).not.toBe(0);
    expect(failed.errors).toContain(`unknown option "colour"`);
  });
});
