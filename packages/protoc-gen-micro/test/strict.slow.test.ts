import { join } from "node:path";
import { expect, it } from "vitest";
import { typeCheck } from "./support/compiled.ts";
import { command, folder, protos } from "./support/generator.ts";

/** Each gives other code. */
const variants: Readonly<Record<string, readonly string[]>> = {
  plain: [],
  number: ["--int64", "number"],
  string: ["--int64", "string"],
  names: [
    "--json-names",
    "proto",
    "--json-unknown",
    "ignore",
    "--message-suffix",
    "_pb",
    "--output-suffix",
    "_micro.mts",
  ],
  ours: ["--core", "@micro/core", "--runtime", "@micro/core/proto", "--service", "go.micro.srv.kinds"],
};

/** More fields than one function has, of every kind of statement. */
function wide(): string {
  const kinds = ["string", "int64", "bytes", "Wide", "google.protobuf.Value", "Colour", "google.protobuf.NullValue"];
  const fields = Array.from({ length: 1400 }, (_, index) => {
    const kind = kinds[index % kinds.length]!;
    const form = ["", "repeated ", "optional "][Math.floor(index / kinds.length) % 4];
    return form === undefined
      ? `map<string, ${kind}> f${index} = ${index + 1};`
      : `${form}${kind} f${index} = ${index + 1};`;
  });
  return `syntax = "proto3"; import "google/protobuf/struct.proto"; package wide; enum Colour { NONE = 0; } message Wide { ${fields.join("\n")} }`;
}

const small = {
  "empty.proto": `syntax = "proto3";`,
  "none.proto": `syntax = "proto3"; message None {} service Nothing {}`,
  "any.proto": `syntax = "proto3"; import "google/protobuf/any.proto"; message Held { google.protobuf.Any any = 1; }`,
  "held.proto": `syntax = "proto3"; import "any.proto"; service Holds { rpc Hold(Held) returns (Held); }`,
  "over.proto": `syntax = "proto3"; import "held.proto"; import "any.proto"; message Over { Held held = 1; }`,
  "one.proto": `syntax = "proto3"; message One { string text = 1; }`,
  "enum.proto": `syntax = "proto3"; enum Colour { NONE = 0; }`,
  "oneof.proto": `syntax = "proto3"; import "google/protobuf/struct.proto"; message Of { oneof size { google.protobuf.NullValue none = 1; string text = 2; } }`,
  "json.proto": `syntax = "proto3"; message Named { string text = 1 [json_name = "a, o) => (m, o"]; string other = 2 [json_name = "constructor"]; }`,
  "extended.proto": `syntax = "proto2"; message Base { extensions 1 to max; } extend Base { optional string a = 1; repeated Base b = 2; optional group C = 3 { required int64 d = 1; } }`,
};

it("what is generated compiles under every strictness of TypeScript, with every option", async () => {
  await using work = await folder({ ...small, "wide.proto": wide() });
  for (const [name, options] of Object.entries(variants)) {
    const files = ["kinds.proto", "known.proto", "routes.proto", "old.proto", "every.proto"];
    const out = join(work.path, "gen", name);
    expect(await command("-I", protos, ...files, "--out", out, ...options)).toMatchObject({ code: 0, errors: "" });
    const own = [...Object.keys(small), "wide.proto"];
    expect(await command("-I", work.path, ...own, "--out", join(out, "own"), ...options)).toMatchObject({
      code: 0,
      errors: "",
    });
  }
  expect(await typeCheck(work.path, "gen")).toBe("");
});
