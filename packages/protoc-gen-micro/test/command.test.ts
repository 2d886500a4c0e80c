import { readFile, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { runCommand } from "../src/command.ts";
import { runBeside, typeCheck } from "./support/compiled.ts";
import { command, execute, filesBelow, folder, generated, main, protos, workspace } from "./support/generator.ts";

const greeter = `syntax = "proto3";
package greeter;
service Greeter { rpc Hello(Request) returns (Response); }
message Request { string first_name = 1; int64 id = 2; }
message Response { string msg = 1; }
`;

describe("the command", () => {
  it("writes messages and stubs beside each other, and what they import", async () => {
    await using work = await folder({ "greeter.proto": greeter });
    const ended = await execute(process.execPath, [main, "greeter.proto", "--out", "gen"], work.path);
    expect(ended).toEqual({ code: 0, out: "", errors: "" });
    expect(Object.keys(await filesBelow(join(work.path, "gen")))).toEqual(["greeter.micro.ts", "greeter.ts"]);
  });

  it("has written what is committed, byte for byte", async () => {
    const files = ["kinds.proto", "known.proto", "routes.proto", "old.proto", "every.proto"];
    expect(await command("-I", protos, ...files, "--out", generated, "--check")).toMatchObject({ code: 0, errors: "" });
    const example = join(workspace, "examples", "greeter");
    const check = await command(
      join(example, "greeter.proto"),
      "-I",
      example,
      "--out",
      join(example, "gen"),
      "--check",
    );
    expect(check).toMatchObject({ code: 0, errors: "" });
    const interop = join(workspace, "interop");
    expect(
      await command("-I", join(interop, "go"), "types.proto", "--out", join(interop, "gen"), "--check"),
    ).toMatchObject({ code: 0, errors: "" });
  });

  it("with --check writes nothing and names what is not current", async () => {
    await using work = await folder({ "greeter.proto": greeter });
    const out = join(work.path, "gen");
    const ended = await command(join(work.path, "greeter.proto"), "--out", out, "--check");
    expect(ended.code).toBe(1);
    expect(ended.errors).toContain(join(out, "greeter.micro.ts"));
    expect(await filesBelow(out)).toEqual({});
  });

  it("finds imports in folders inside of others, and google.api by itself", async () => {
    await using work = await folder({
      "api/service.proto": `syntax = "proto3"; import "google/api/annotations.proto"; import "shared.proto";
service S { rpc Get(Shared) returns (Shared) { option (google.api.http) = { get: "/s" }; } }`,
      "third_party/shared.proto": `syntax = "proto3"; message Shared {}`,
    });
    const out = join(work.path, "gen");
    const folders = ["-I", work.path, "-I", join(work.path, "third_party")];
    expect(await command(...folders, "api/service.proto", "--out", out)).toMatchObject({ code: 0, errors: "" });
    const files = await filesBelow(out);
    expect(Object.keys(files)).toEqual(["api/service.micro.ts", "api/service.ts", "shared.ts"]);
    expect(files["api/service.micro.ts"]).toContain(`import { Shared } from "../shared.ts";`);
    expect(files["api/service.micro.ts"]).toContain(`http: [{ method: "GET", path: "/s" }]`);
  });

  it("takes the user's own google/api/annotations.proto before the one it brings", async () => {
    await using work = await folder({
      "google/api/annotations.proto": `syntax = "proto3"; package google.api; import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { string mine = 50000; }`,
      "s.proto": `syntax = "proto3"; import "google/api/annotations.proto"; message M {}
service S { rpc Get(M) returns (M) { option (google.api.mine) = "x"; } }`,
    });
    expect(await command("-I", work.path, "s.proto", "--out", join(work.path, "gen"))).toMatchObject({ code: 0 });
  });

  it("takes the first of a name in the folders, in their order, as protoc does", async () => {
    await using work = await folder({
      "a/main.proto": `syntax = "proto3"; import "sub/shared.proto"; message Main { Shared shared = 1; }`,
      "a/sub/shared.proto": `syntax = "proto3"; message Shared { string first = 1; }`,
      "b/sub/shared.proto": `syntax = "proto3"; message Shared { string second = 1; }`,
      "b/main.proto": `syntax = "proto3"; message Other {}`,
    });
    const [a, b] = [join(work.path, "a"), join(work.path, "b")];
    const run = async (...folders: string[]) => {
      const out = join(work.path, crypto.randomUUID());
      const ended = await command(...folders.flatMap((one) => ["-I", one]), "main.proto", "--out", out);
      expect(ended).toEqual({ code: 0, out: "", errors: "" });
      return filesBelow(out);
    };
    expect((await run(a, b))["sub/shared.ts"]).toContain("first: string;");
    expect((await run(b, a))["main.ts"]).toContain("interface Other");
    // One folder inside of another: the same file by two names is two files, and nobody minds.
    expect((await run(a, join(a, "sub")))["sub/shared.ts"]).toContain("first: string;");
    const hidden = await command("-I", a, "-I", b, join(b, "main.proto"), "--out", join(work.path, "out"));
    expect(hidden.code).toBe(1);
    expect(hidden.errors).toMatch(/b[/\\]main\.proto: .*a[/\\]main\.proto comes before it/);
  });

  it("--lock has every input and output; --check compares it", async () => {
    await using work = await folder({
      "greeter.proto": greeter.replace("package", `import "shared.proto";\npackage`),
      "shared.proto": `syntax = "proto3"; message Shared {}`,
    });
    const lock = join(work.path, "gen.lock");
    const args = [join(work.path, "greeter.proto"), "--out", join(work.path, "gen"), "--lock", lock];
    expect(await command(...args)).toMatchObject({ code: 0 });
    const text = JSON.parse((await filesBelow(work.path))["gen.lock"]!) as Record<string, object>;
    expect(Object.keys(text["inputs"]!)).toEqual(["greeter.proto", "shared.proto"]);
    expect(Object.keys(text["outputs"]!)).toEqual(["greeter.micro.ts", "greeter.ts", "shared.ts"]);
    expect(await command(...args, "--check")).toMatchObject({ code: 0 });
    // A comment changes no output.
    await writeFile(join(work.path, "shared.proto"), `// New.\nsyntax = "proto3"; message Shared {}`);
    const check = await command(...args, "--check");
    expect(check).toMatchObject({ code: 1, errors: `generated files are not current, generate again: ${lock}` });
  });

  it("--watch generates again when an import changes, and goes on after errors", async () => {
    await using work = await folder({
      "greeter.proto": greeter.replace("package", `import "shared.proto";\npackage`),
      "shared.proto": `syntax = "proto3"; message Shared {}`,
    });
    const end = new AbortController();
    const told: string[] = [];
    const tell = (text: string): void => void told.push(text);
    const out = join(work.path, "gen");
    const args = [join(work.path, "greeter.proto"), "--out", out, "--watch"];
    const running = runCommand(args, { out: tell, error: tell }, end.signal);
    const has = (text: string) =>
      expect.poll(async () => (await filesBelow(out))["shared.ts"], { timeout: 10_000 }).toContain(text);
    await has("interface Shared");
    await writeFile(join(work.path, "shared.proto"), `syntax = "proto3"; message Changed {}`);
    await has("interface Changed");
    await writeFile(join(work.path, "shared.proto"), `syntax = "proto3"; message`);
    await expect.poll(() => told.join("\n"), { timeout: 10_000 }).toMatch(/shared\.proto:1:\d+:/);
    await writeFile(join(work.path, "shared.proto"), `syntax = "proto3"; message Again {}`);
    await has("interface Again");
    end.abort();
    expect(await running).toBe(0);
  });

  it("obeys its options", async () => {
    await using work = await folder({ "greeter.proto": greeter });
    const run = async (...args: string[]): Promise<Record<string, string>> => {
      const out = join(work.path, "gen", crypto.randomUUID());
      expect(await command(join(work.path, "greeter.proto"), "--out", out, ...args)).toMatchObject({ code: 0 });
      return filesBelow(out);
    };
    expect(Object.keys(await run("--emit", "stubs"))).toEqual(["greeter.micro.ts"]);
    expect(Object.keys(await run("--emit", "messages"))).toEqual(["greeter.ts"]);
    expect(Object.keys(await run("--output-suffix", "_micro.mts"))).toEqual(["greeter.ts", "greeter_micro.mts"]);
    const pb = await run("--message-suffix", "_pb", "--import-extension", ".js");
    expect(pb["greeter.micro.ts"]).toContain(`from "./greeter_pb.js"`);
    expect((await run("--import-extension", "none"))["greeter.micro.ts"]).toContain(`from "./greeter";`);
    expect((await run())["greeter.ts"]).toContain("id: bigint;");
    expect((await run("--int64", "number"))["greeter.ts"]).toContain("id: number;");
    expect((await run("--int64", "string"))["greeter.ts"]).toContain("id: string;");
    expect((await run("--json-names", "proto"))["greeter.micro.ts"]).toContain(`jsonNames: "proto",`);
    expect((await run("--json-unknown", "ignore"))["greeter.micro.ts"]).toContain("ignoreUnknownFields: true,");
    const tsProto = ["--messages", "ts-proto"];
    expect((await run(...tsProto))["greeter.ts"]).toContain("obj.firstName =");
    expect((await run(...tsProto, "--json-names", "proto"))["greeter.ts"]).toContain("obj.first_name =");
    expect((await run("--service", "go.micro.srv.greeter"))["greeter.micro.ts"]).toContain(
      `service: "go.micro.srv.greeter",`,
    );
    const mapped = await run("--map", "greeter.proto=@acme/messages");
    expect(Object.keys(mapped)).toEqual(["greeter.micro.ts"]);
    expect(mapped["greeter.micro.ts"]).toContain(`from "@acme/messages";`);
    expect((await run(...tsProto, "--ts-proto-opt", "comments=false"))["greeter.ts"]).toContain("firstName: string;");
    expect((await run("--core", "../core.ts"))["greeter.micro.ts"]).toContain(`from "../core.ts";`);
  });

  it("says its version, and what it watches", async () => {
    const { version } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8")) as {
      version: string;
    };
    expect(await command("--version")).toEqual({ code: 0, out: `protoc-gen-micro ${version}`, errors: "" });
    await using work = await folder({ "greeter.proto": greeter });
    const end = new AbortController();
    const told: string[] = [];
    const tell = (text: string): void => {
      told.push(text);
      end.abort();
    };
    const args = [join(work.path, "greeter.proto"), "--out", join(work.path, "gen"), "--watch"];
    expect(await runCommand(args, { out: tell, error: tell }, end.signal)).toBe(0);
    expect(told).toEqual([`watching ${join(work.path, "greeter.proto")}`]);
  });

  it("shows its options", async () => {
    const { code, out } = await command("--help");
    expect(code).toBe(0);
    for (const flag of ["--out", "--proto-path", "--emit", "--int64", "--check"]) expect(out).toContain(flag);
  });
});

describe("bad input", () => {
  it("a proto with errors: all of them with file and line, exit code 1, nothing written", async () => {
    await using work = await folder({
      "bad.proto": `syntax = "proto3";\nimport "missing.proto";\nmessage A { strin x = 1; }\nmessage B { string x = 1 }\n`,
      "good.proto": greeter,
    });
    const ended = await execute(process.execPath, [main, "good.proto", "bad.proto", "--out", "gen"], work.path);
    expect(ended.code).toBe(1);
    const lines = ended.errors.trim().split("\n");
    expect(lines[0]).toMatch(/^bad\.proto:2:\d+:.*missing\.proto/);
    expect(lines[1]).toMatch(/^bad\.proto:3:\d+:.*strin/);
    expect(lines[2]).toMatch(/^bad\.proto:4:\d+:/);
    expect(await filesBelow(join(work.path, "gen"))).toEqual({});
  });

  it("names a file with errors by the path it was given by", async () => {
    await using work = await folder({ "in a/folder/bad.proto": `syntax = "proto3"; message A { strin x = 1; }` });
    const ended = await execute(process.execPath, [main, "in a/folder/bad.proto", "--out", "gen"], work.path);
    expect(ended).toMatchObject({ code: 1, errors: expect.stringMatching(/^in a[/\\]folder[/\\]bad\.proto:1:\d+:/) });
  });

  /** A file, and what is said of it. The place is where its author has to go. */
  it.each([
    [
      "a cycle",
      { "a.proto": `syntax = "proto3";\nimport "b.proto";`, "b.proto": `syntax = "proto3";\nimport "a.proto";` },
      /\.proto:2:\d+:.*cyclic/,
    ],
    ["a file that imports itself", { "a.proto": `syntax = "proto3";\nimport "a.proto";` }, /a\.proto:2:\d+:/],
    [
      "two of one name",
      { "a.proto": `syntax = "proto3";\nmessage A {}\nmessage A {}` },
      /a\.proto:\d:\d+:.*A.* declared multiple times/,
    ],
    [
      "two of one name in two files",
      { "a.proto": `syntax = "proto3"; import "b.proto";\nmessage A {}`, "b.proto": `syntax = "proto3"; message A {}` },
      /\.proto:\d+:\d+:.*A/,
    ],
    [
      "a reserved number",
      { "a.proto": `syntax = "proto3";\nmessage A {\n  reserved 5;\n  string x = 5; }` },
      /a\.proto:4:\d+:.*reserved/,
    ],
    [
      "a number of protobuf's own",
      { "a.proto": `syntax = "proto3";\nmessage A { string x = 19000; }` },
      /a\.proto:2:\d+:/,
    ],
    [
      "a number that is too large",
      { "a.proto": `syntax = "proto3";\nmessage A { string x = 536870912; }` },
      /a\.proto:2:\d+:/,
    ],
    [
      "a number twice",
      { "a.proto": `syntax = "proto3";\nmessage A { string x = 1;\n string y = 1; }` },
      /a\.proto:3:\d+:/,
    ],
    [
      "an option nobody knows",
      { "a.proto": `syntax = "proto3";\nmessage A { option (nope) = 1; }` },
      /a\.proto:2:\d+:.*nope/,
    ],
    ["a syntax nobody knows", { "a.proto": `syntax = "proto9";\nmessage A {}` }, /a\.proto:1:\d+:.*syntax/],
    ["an edition to come", { "a.proto": `edition = "2099";\nmessage A {}` }, /a\.proto:1:\d+:.*edition/],
    ["no text at all of protobuf", { "a.proto": "\u0000\ufffd{}" }, /a\.proto:1:\d+:/],
    ["a comment without an end", { "a.proto": `syntax = "proto3";\n/* for ever` }, /a\.proto:2:\d+:/],
    [
      "brackets without an end",
      { "a.proto": `syntax = "proto3";\nmessage A ${"{ message B ".repeat(200)}` },
      /a\.proto:2:\d+:/,
    ],
    ["an enum without a zero", { "a.proto": `syntax = "proto3";\nenum E { ONE = 1; }` }, /a\.proto:2:\d+:/],
    [
      "names that are the same in JSON",
      { "a.proto": `syntax = "proto3";\nmessage A { string a_b = 1;\n string aB = 2; }` },
      /a\.proto:\d:\d+:.*JSON/i,
    ],
  ] as [string, Record<string, string>, RegExp][])(
    "%s: file, line and column, exit code 1, nothing written",
    async (_, files, message) => {
      await using work = await folder(files);
      const out = join(work.path, "gen");
      const { code, errors } = await command("-I", work.path, "a.proto", "--out", out);
      expect(errors).toMatch(message);
      expect(code).toBe(1);
      expect(await filesBelow(out)).toEqual({});
    },
  );

  it("comments and values that would end what they stand in do not", async () => {
    const hostile = "*/ throw 1; /* \u2028 ${x} ` \\u002a/ // </script> @deprecated";
    await using work = await folder({
      "h.proto": `syntax = "proto2";\n// ${hostile}\nmessage A {\n// ${hostile}\noptional string x = 1 [default = "*/ throw 2; \\n \\" \\342\\200\\250", json_name = "a\\"b*/"];\n// ${hostile}\noneof c { string y = 2; } }\n// ${hostile}\nenum E {\n// ${hostile}\nONE = 1; }\n// ${hostile}\nservice S {\n// ${hostile}\nrpc R(A) returns (A); }`,
    });
    expect(await command("-I", work.path, "h.proto", "--out", join(work.path, "gen"))).toMatchObject({ code: 0 });
    expect(await typeCheck(work.path, "gen")).toBe("");
    const text = `import { A } from "./gen/h.ts"; import "./gen/h.micro.ts"; console.log(JSON.stringify(A.toJSON({ x: "1" })));`;
    expect(await runBeside(work.path, text)).toBe(`{"a\\"b*/":"1"}\n`);
  });

  it("what ts-proto cannot do is refused with every place, and done without it", async () => {
    await using work = await folder({
      "t.proto": `syntax = "proto2";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message Map {}
message StringValue {}
enum Word { string = 1; }
message A {
  required string a = 1;
  optional int32 b = 2 [default = inf];
  oneof c {
    google.protobuf.Int64Value d = 3;
    google.protobuf.Value e = 4;
    google.protobuf.NullValue f = 5;
  }
  map<string, google.protobuf.BytesValue> g = 6;
}`.replace("int32 b = 2 [default = inf]", "double b = 2 [default = inf]"),
      "d.proto": `edition = "2023";\nmessage D { D d = 1 [features.message_encoding = DELIMITED]; }`,
    });
    const files = ["-I", work.path, "t.proto", "d.proto", "--out", join(work.path, "gen")];
    const { code, errors } = await command(...files, "--messages", "ts-proto");
    expect(code).toBe(1);
    const lines = errors.split("\n").map((line) => line.replace(/^.*[/\\]/, ""));
    expect(lines.map((line) => line.split(":", 2).join(":"))).toEqual([
      "t.proto:4",
      "t.proto:5",
      "t.proto:8",
      "t.proto:9",
      "t.proto:11",
      "t.proto:12",
      "t.proto:13",
      "t.proto:15",
      "t.proto:6",
      "d.proto:2",
    ]);
    for (const line of lines)
      expect(line).toMatch(/: ts-proto .*; leave --messages=ts-proto out, or change the \.proto file$/);
    expect(await filesBelow(join(work.path, "gen"))).toEqual({});
    expect(await command(...files)).toMatchObject({ code: 0, errors: "" });
    expect(await typeCheck(work.path, "gen")).toBe("");
  });

  it("a lower-case rpc name: a warning that says what Go does with it", async () => {
    await using work = await folder({ "low.proto": greeter.replace("rpc Hello", "rpc say_hello") });
    const out = join(work.path, "gen");
    const { code, errors } = await command("-I", work.path, "low.proto", "--out", out);
    expect(code).toBe(0);
    expect(errors).toMatch(/^low\.proto:3:\d+: warning: rpc say_hello: Go clients cannot call it.*name it SayHello$/);
    const stubs = (await filesBelow(out))["low.micro.ts"];
    expect(stubs).toContain(`sayHello: { name: "SayHello", kind: "unary"`);
  });

  it("two rpcs with one name on the wire: an error with file and line, nothing written", async () => {
    await using work = await folder({
      "two.proto": greeter.replace(
        "rpc Hello(Request) returns (Response);",
        "$&\n  rpc hello(Request) returns (Response);",
      ),
    });
    const out = join(work.path, "gen");
    const { code, errors } = await command("-I", work.path, "two.proto", "--out", out);
    expect(code).toBe(1);
    expect(errors).toMatch(
      /^two\.proto:4:3: two rpcs of one service are both Hello on the wire: Hello \(two\.proto:3:19\) and hello/,
    );
    expect(await filesBelow(out)).toEqual({});
  });

  it.each([
    [["--foo"], /^unknown option --foo; valid ones are --out, .*--emit.*--int64/],
    [["--int64", "float"], /^option --int64: "float" is not possible: it is one of bigint, number, string, long$/],
    [["--ot", "x"], /^unknown option --ot \(did you mean --out\?\); valid ones are/],
    [["--protopath", "x"], /^unknown option --protopath \(did you mean --proto-path\?\); valid ones are/],
    [["--import_extension=.js"], /^unknown option --import_extension \(did you mean --import-extension\?\); valid/],
    [["--map", "x"], /^--map: "x" has not the form/],
    [
      ["--map", "greter.proto=x"],
      /^--map: greter\.proto is neither generated nor imported \(did you mean greeter\.proto\?\)$/,
    ],
    [["--ts-proto-opt", "useDate=false"], /^ts-proto's option useDate=false has no effect: it needs messages=ts-proto/],
    [
      ["--messages=ts-proto", "--emit=stubs", "--ts-proto-opt", "useDate=false"],
      /^ts-proto's option useDate=false has no effect/,
    ],
    [["--messages=ts-proto", "--ts-proto-opt", "nonsense=1"], /^ts-proto has no option nonsense$/],
    [
      ["--messages=ts-proto", "--ts-proto-opt", "useDates=1"],
      /^ts-proto has no option useDates \(did you mean useDate\?\)$/,
    ],
    [["--messages=ts-proto", "--ts-proto-opt", "useDate=a,onlyTypes=true"], /it has the form key=value/],
    [["--protoc", "/bin/true"], /^\/bin\/true ended without an error, and without what a protoc writes: is it one\?$/],
    [["--ts-proto-opt", "forceLong=long"], /use int64 instead of ts-proto's forceLong/],
    [["--ts-proto-opt", "onlyTypes=true"], /the stubs need ts-proto's onlyTypes as it is/],
    [["--protoc", "/does/not/exist"], /^cannot run \/does\/not\/exist: /],
    [["-I", "/does/not/exist"], /^the folder \/does\/not\/exist \(--proto-path\) does not exist$/],
  ])("%j: an error that helps", async (args, message) => {
    await using work = await folder({ "greeter.proto": greeter });
    const out = join(work.path, "gen");
    const { code, errors } = await command(join(work.path, "greeter.proto"), "--out", out, ...args);
    expect(errors).toMatch(message);
    expect(code).toBe(1);
    expect(await filesBelow(out)).toEqual({});
  });

  it("what the system refuses is told without a stack", async () => {
    await using work = await folder({ "greeter.proto": greeter });
    const args = [main, "greeter.proto", "--out", "gen"];
    const env = { ...process.env, TMPDIR: "/does/not/exist" };
    const ended = await promisify(execFile)(process.execPath, args, { cwd: work.path, env }).catch(
      (error: { code: number; stderr: string }) => error,
    );
    expect(ended).toMatchObject({ code: 1 });
    expect(ended.stderr).toMatch(/^no temporary folder can be made \(TMPDIR is \/does\/not\/exist\): ENOENT.*\n$/);
  });

  it("no file, no folder, no such file", async () => {
    expect(await command("--out", "gen")).toMatchObject({ code: 1, errors: "no .proto file is given; see --help" });
    expect(await command("a.proto")).toMatchObject({ code: 1, errors: "--out <folder> is missing; see --help" });
    expect((await command("a.proto", "--out", "gen")).errors).toMatch(/^a\.proto: no such file/);
  });
});
