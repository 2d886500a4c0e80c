import { join } from "node:path";
import { describe, expect, it } from "vitest";
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
    const files = ["kinds.proto", "known.proto", "routes.proto", "old.proto"];
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
    expect((await run("--ts-proto-opt", "useDate=false", "--core", "../core.ts"))["greeter.micro.ts"]).toContain(
      `from "../core.ts";`,
    );
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
    expect(errors).toMatch(/^two\.proto:4:3: two rpcs of one service are both Hello on the wire/);
    expect(await filesBelow(out)).toEqual({});
  });

  it.each([
    [["--foo"], /^unknown option --foo; valid ones are --out, .*--emit.*--int64/],
    [["--int64", "float"], /^option --int64: "float" is not possible: it is one of bigint, number, string, long$/],
    [["--map", "x"], /^--map: "x" has not the form/],
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

  it("no file, no folder, no such file", async () => {
    expect(await command("--out", "gen")).toMatchObject({ code: 1, errors: "no .proto file is given; see --help" });
    expect(await command("a.proto")).toMatchObject({ code: 1, errors: "--out <folder> is missing; see --help" });
    expect((await command("a.proto", "--out", "gen")).errors).toMatch(/^a\.proto: no such file/);
  });
});
