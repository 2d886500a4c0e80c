/** .proto files that are right, and still need care: their names, editions, comments, imports, names in JSON. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CodeGeneratorRequestSchema,
  CodeGeneratorResponseSchema,
  Edition,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compile } from "../src/compiler.ts";
import { runPlugin } from "../src/plugin.ts";
import { runBeside, typeCheck } from "./support/compiled.ts";
import { bufProgram, command, execute, filesBelow, folder, main, workspace } from "./support/generator.ts";

/** What the plugin answers to a request whose files were changed on their way, as no compiler would. */
async function answerTo(
  files: Record<string, string>,
  change: (file: FileDescriptorProto) => void = () => {},
): Promise<{ error: string; warnings: string[] }> {
  await using work = await folder(files);
  const { set, names } = await compile({ files: Object.keys(files), protoPaths: [work.path] });
  set.file.forEach(change);
  const request = create(CodeGeneratorRequestSchema, { fileToGenerate: [...names], protoFile: set.file });
  const warnings: string[] = [];
  const bytes = await runPlugin(toBinary(CodeGeneratorRequestSchema, request), (text) => void warnings.push(text));
  return { error: fromBinary(CodeGeneratorResponseSchema, bytes).error, warnings };
}

const twins = (head: string, label = ""): Record<string, string> => ({
  "a.proto": `${head}\npackage p;\nmessage Outer {\n  message A {\n    ${label} int32 foo_bar = 1;\n    ${label} int32 fooBar = 2;\n  }\n}\n`,
});
const inEdition = (edition: string): Record<string, string> => ({
  "a.proto": `// Two lines\n// before it.\nedition = "${edition}";\npackage x;\nmessage A { int32 a = 1; string s = 2 [features.field_presence = IMPLICIT]; }\n`,
});
const told = (name: string): string =>
  `a.proto:3:1: ${name} is not supported: proto2, proto3, and editions 2023 and 2024 are`;

describe("two fields with one name in JSON", () => {
  const text = `the fields foo_bar and fooBar of p.Outer.A are both "fooBar" in JSON`;

  it("are refused by the compiler, and by the plugin, with file and line", async () => {
    await using work = await folder(twins(`syntax = "proto3";`));
    const { code, errors } = await command(
      "-I",
      work.path,
      join(work.path, "a.proto"),
      "--out",
      join(work.path, "gen"),
    );
    expect(code).toBe(1);
    expect(errors).toContain("a.proto:6:");
    expect(errors).toContain("same JSON name");
    // Whoever makes requests without a compiler's checks.
    const distinct = { "a.proto": `syntax = "proto3"; message A {\n  int32 a = 1;\n  int32 b = 2;\n}` };
    const renamed = await answerTo(distinct, ({ messageType: [message] }) => {
      for (const field of message!.field) field.jsonName = "x";
    });
    expect(renamed.error).toBe(
      'a.proto:3:3: the fields a and b of A are both "x" in JSON: give one of them another json_name',
    );
  });

  it("are a warning where JSON is done as well as it can be: in proto2, and where a file says so", async () => {
    const warned = {
      error: "",
      warnings: [
        expect.stringMatching(
          /^a\.proto:\d+:\d+: warning: the fields foo_bar and fooBar of .*A are both "fooBar" in JSON, which has only the first/,
        ),
      ],
    };
    expect(await answerTo(twins(`syntax = "proto2";`, "optional"))).toEqual(warned);
    const edition = `edition = "2023";\nmessage A {\n  option features.json_format = LEGACY_BEST_EFFORT;\n  int32 foo_bar = 1;\n  int32 fooBar = 2;\n}\n`;
    expect(await answerTo({ "a.proto": edition })).toEqual(warned);
    expect((await answerTo(twins(`syntax = "proto2";`, "optional"))).warnings[0]).toContain(text);
    const silenced = `syntax = "proto2"; message A { option deprecated_legacy_json_field_conflicts = true; optional int32 foo_bar = 1; optional int32 fooBar = 2; }`;
    expect(await answerTo({ "a.proto": silenced })).toEqual({ error: "", warnings: [] });
  });

  it("do not include names that are swapped, and extensions", async () => {
    const swapped =
      `syntax = "proto2"; message A { optional int32 a = 1 [json_name = "b"]; optional int32 b = 2 [json_name = "a"]; extensions 9; extend A { optional int32 a = 9; } }`.replace(
        "extend A { optional int32 a",
        "extend A { optional int32 c",
      );
    expect(await answerTo({ "a.proto": swapped })).toEqual({ error: "", warnings: [] });
  });
});

describe("editions", () => {
  it.each(["2023", "2024"])("%s is generated", async (edition) => {
    expect(await answerTo(inEdition(edition))).toEqual({ error: "", warnings: [] });
  });

  it("2024: what only compilers mind changes nothing", async () => {
    await using work = await folder({
      "o.proto": `edition = "2024"; package o; import "google/protobuf/descriptor.proto"; extend google.protobuf.FieldOptions { string hint = 50000; }`,
      "a.proto": `edition = "2024"; package x; import option "o.proto"; option features.enforce_naming_style = STYLE_LEGACY;
        option features.default_symbol_visibility = EXPORT_ALL;
        export message A { int32 a = 1 [(o.hint) = "x"]; B inner = 2; } local message B { int32 a = 1; }`,
    });
    expect(await command("-I", work.path, join(work.path, "a.proto"), "--out", join(work.path, "gen"))).toMatchObject({
      code: 0,
      errors: "",
    });
    expect(Object.keys(await filesBelow(join(work.path, "gen")))).toEqual(["a.ts"]);
    expect(await typeCheck(work.path, "gen")).toBe("");
  });

  it("that are not known are refused with file, line and those that are", async () => {
    for (const [number, name] of [
      [Edition.EDITION_2026, "edition 2026"],
      // What a later one has become here.
      [Edition.EDITION_UNKNOWN, "its edition"],
      [Edition.EDITION_UNSTABLE, "edition UNSTABLE"],
      [Edition.EDITION_MAX, "edition MAX"],
    ] as const) {
      const changed = await answerTo(inEdition("2024"), (file) => void (file.edition = number));
      expect(changed.error, name).toBe(told(name));
    }
    // One that is only imported says what its messages are as well.
    const imported = await answerTo(
      { "b.proto": `syntax = "proto3"; import "a.proto"; message B { x.A a = 1; }`, ...inEdition("2023") },
      (file) => void (file.name === "a.proto" && (file.edition = Edition.EDITION_2026)),
    );
    expect(imported.error).toBe(told("edition 2026"));
  });
});

describe("names of .proto files with signs that an import reads as something else", () => {
  const files = {
    "a b/c#d?e%20f.proto": `syntax = "proto3"; package q; message Q { int32 a = 1; } service S { rpc Get(Q) returns (Q); }`,
    "x%y/100%.proto": `syntax = "proto3"; package r; import "a b/c#d?e%20f.proto"; message R { q.Q q = 1; } service T { rpc Get(q.Q) returns (R); }`,
    "é ü/1.2.proto": `syntax = "proto3"; package u; import "x%y/100%.proto"; message U { r.R r = 1; } service V { rpc Get(U) returns (r.R); }`,
  };

  it("are those of the outputs but for these: Node and TypeScript find them", async () => {
    await using work = await folder(files);
    const run = (...args: string[]) =>
      command(
        "-I",
        work.path,
        ...Object.keys(files).map((name) => join(work.path, name)),
        "--out",
        join(work.path, "gen"),
        ...args,
      );
    expect(await run()).toMatchObject({ code: 0, errors: "" });
    expect(Object.keys(await filesBelow(join(work.path, "gen"))).toSorted()).toEqual([
      "a b/c_d_e_20f.micro.ts",
      "a b/c_d_e_20f.ts",
      "x_y/100_.micro.ts",
      "x_y/100_.ts",
      "é ü/1.2.micro.ts",
      "é ü/1.2.ts",
    ]);
    expect(await typeCheck(work.path, "gen")).toBe("");
    const text = `import { U } from "./gen/é ü/1.2.ts"; import { V } from "./gen/é ü/1.2.micro.ts";
      console.log(JSON.stringify(U.toJSON({ r: { q: { a: 5 } } })), typeof V);`;
    expect(await runBeside(work.path, text)).toBe(`{"r":{"q":{"a":5}}} object\n`);
    expect(await run("--check")).toMatchObject({ code: 0 });
    // Those files are known again when they are not current any more.
    await writeFile(join(work.path, "x%y/100%.proto"), `syntax = "proto3"; package r; message R {}`);
    await writeFile(join(work.path, "é ü/1.2.proto"), `syntax = "proto3"; package u; message U {}`);
    expect(await run("--clean")).toMatchObject({ code: 0 });
    expect(Object.keys(await filesBelow(join(work.path, "gen")))).not.toContain("x_y/100_.micro.ts");
  });

  it("are refused where two outputs would be one, and for ts-proto's messages", async () => {
    await using work = await folder({
      "a#.proto": `syntax = "proto3"; message A {}`,
      "a%.proto": `syntax = "proto3"; message B {}`,
    });
    const run = (...args: string[]) => command("-I", work.path, work.path, "--out", join(work.path, "gen"), ...args);
    expect((await run()).errors).toBe(
      "the messages of a#.proto and the messages of a%.proto would both be written to a_.ts: rename a .proto file, or choose another output suffix or message suffix",
    );
    expect((await run("--messages", "ts-proto")).errors).toContain(
      "a#.proto: ts-proto's file of this name cannot be imported",
    );
  });
});

it("`buf generate` with descriptors and the like: what nobody asks for comes with the rest, and compiles", async () => {
  const imports = ["descriptor", "api", "type", "source_context", "compiler/plugin"]
    .map((name) => `import "google/protobuf/${name}.proto";\n`)
    .join("");
  const using = (name: string): string => `syntax = "proto3";
package ${name};
${imports}
message U {
  google.protobuf.FileDescriptorProto file = 1;
  google.protobuf.Api api = 2;
  google.protobuf.Type type = 3;
  google.protobuf.SourceContext context = 4;
  google.protobuf.compiler.CodeGeneratorRequest request = 5;
}
service S { rpc Get(google.protobuf.DescriptorProto) returns (google.protobuf.Api); }
`;
  await using work = await folder({
    "a/a.proto": using("a"),
    // buf starts the plugin once for each folder.
    "b/b.proto": using("b"),
    "buf.yaml": "version: v2\n",
    "buf.gen.yaml": `version: v2
plugins:
  - { local: [${JSON.stringify(process.execPath)}, ${JSON.stringify(main)}], out: gen, opt: import_extension=.ts }
`,
  });
  expect(await execute(bufProgram(), ["generate"], work.path)).toMatchObject({ code: 0, errors: "" });
  const names = Object.keys(await filesBelow(join(work.path, "gen")));
  expect(names.filter((name) => name.startsWith("google")).toSorted()).toEqual(
    ["api", "compiler/plugin", "descriptor", "source_context", "type"].map((name) => `google/protobuf/${name}.ts`),
  );
  expect(await typeCheck(work.path, "gen")).toBe("");
  const text = `import { U } from "./gen/a/a.ts"; const json = { file: { name: "x" }, type: { fields: [{ kind: "TYPE_BOOL" }] } };
    console.log(JSON.stringify(U.toJSON(U.decode(U.encode(U.fromJSON(json))))));`;
  expect(await runBeside(work.path, text)).toBe(`{"file":{"name":"x"},"type":{"fields":[{"kind":"TYPE_BOOL"}]}}\n`);
});

it("comments with @internal leave nothing out of declarations with stripInternal, which others need", async () => {
  await using work = await folder({
    "a.proto": `syntax = "proto3";
package a;
// @internal for us only
message A {
  // @internal
  int32 number = 1;
  // Not @internalised.
  Kind kind = 2;
  // @internal
  oneof choice {
    // @internal
    string text = 3;
  }
}
// @internal
enum Kind {
  // @internal
  NONE = 0;
}
// @internal
service S {
  // @internal
  rpc Get(A) returns (A);
}
`,
    "b.proto": `syntax = "proto3"; package b; import "a.proto"; message B { a.A a = 1; a.Kind kind = 2; } service T { rpc Get(a.A) returns (B); }`,
  });
  const made = await command(
    "-I",
    work.path,
    join(work.path, "a.proto"),
    join(work.path, "b.proto"),
    "--out",
    join(work.path, "gen"),
  );
  expect(made).toMatchObject({ code: 0, errors: "" });
  expect(await readFile(join(work.path, "gen/a.ts"), "utf8")).toContain("/** @ internal for us only */");
  // As a project has it that publishes what was generated.
  expect(await typeCheck(work.path, "gen")).toBe("");
  const config = JSON.parse(await readFile(join(work.path, "tsconfig.json"), "utf8")) as { compilerOptions: object };
  const { compilerOptions } = config;
  const emitting = {
    ...compilerOptions,
    noEmit: false,
    emitDeclarationOnly: true,
    stripInternal: true,
    outDir: "types",
    rootDir: "gen",
  };
  await writeFile(join(work.path, "tsconfig.json"), JSON.stringify({ compilerOptions: emitting, include: ["gen"] }));
  const tsc = join(workspace, "node_modules/.bin/tsc");
  expect((await execute(tsc, ["-p", "."], work.path)).out).toBe("");
  await writeFile(
    join(work.path, "user.ts"),
    `import { A, Kind } from "./types/a.d.ts"; import { B } from "./types/b.d.ts"; import { newSService } from "./types/a.micro.d.ts";
    export const b: B = B.create({ a: { number: 1, kind: Kind.NONE, choice: { $case: "text", value: "x" } } });
    export const a: A | undefined = b.a; export const get = (client: Parameters<typeof newSService>[1]) => newSService("s", client).get({});\n`.replaceAll(
      ".d.ts",
      ".js",
    ),
  );
  const using = { ...compilerOptions, isolatedDeclarations: false };
  await writeFile(
    join(work.path, "tsconfig.json"),
    JSON.stringify({ compilerOptions: using, include: ["user.ts", "types"] }),
  );
  expect((await execute(tsc, ["-p", "."], work.path)).out).toBe("");
});
