import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as core from "@micro/core";
import * as proto from "@micro/core/proto";
import { goCamelCase } from "../src/names.ts";
import { runBeside, typeCheck } from "./support/compiled.ts";
import { command, folder } from "./support/generator.ts";

const typescript = (
  "abstract accessor any arguments as assert asserts async await bigint boolean break case catch class const " +
  "constructor continue debugger declare default defer delete do else enum eval export extends false finally for from " +
  "function get global globalThis if implements import in infer instanceof interface intrinsic is keyof let module " +
  "namespace never new null number object of out override package private protected public readonly require return " +
  "satisfies set static string super switch symbol this throw true try type typeof undefined unique unknown using " +
  "var void while with yield"
).split(" ");
const types = (
  "Awaited Builtin Capitalize ConstructorParameters DeepPartial Exclude Exact Extract Iterable Iterator MessageFns " +
  "NoInfer NonNullable Omit Parameters Partial PartialMessage Pick PromiseLike PropertyKey Readonly ReadonlyArray " +
  "ReadonlyMap Record Required ReturnType ThisType Uncapitalize Timestamp Duration Any Empty Struct Value exports " +
  "__dirname __filename __esModule protobufPackage create fromPartial isSet base bytesFromBase64"
).split(" ");
/** Names inside of generated functions. */
const locals =
  "m w r j o v k to tag part start end from name client server handler options then then_ Then Then_ toJSON".split(" ");

/** Every word of TypeScript, global, inherited member, export of core and name in generated code. */
const words = [
  ...new Set([
    ...typescript,
    ...types,
    ...locals,
    ...Object.getOwnPropertyNames(globalThis),
    ...Object.getOwnPropertyNames(Object.prototype),
    ...Object.keys(core),
    ...Object.keys(proto),
  ]),
].filter((word) => /^[A-Za-z_]\w*$/.test(word));

/** One of those that are the same in camel case, which is what rpcs and services are on the wire. */
const apart = [...new Map(words.map((word) => [goCamelCase(word), word])).values()];
/** One of those that have the same name in JSON, which protoc refuses in proto3. */
const fields = [...new Map(words.map((word) => [word.replaceAll("_", "").toLowerCase(), word])).values()];
const list = (names: readonly string[], line: (name: string, index: number) => string): string =>
  names.map((name, index) => line(name, index + 1)).join("\n");

const parts = Array.from({ length: Math.ceil(words.length / 20) }, (_, index) =>
  words.slice(index * 20, index * 20 + 20),
);

const files: Record<string, string> = {
  "messages.proto": `syntax = "proto3"; package test.messages;
import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto"; import "google/protobuf/any.proto";
${list(
  words,
  (word) => `message ${word} {
  .test.messages.${word} self = 1; bytes data = 2; repeated string list = 3; map<int64, bytes> by_number = 4;
  map<string, .test.messages.${word}> by_text = 5; .google.protobuf.Timestamp at = 6; .google.protobuf.BytesValue box = 7;
  .google.protobuf.Any any = 8; oneof choice { int64 number = 9; .test.messages.${word} other = 10; }
}`,
)}`,
  "users.proto": `syntax = "proto3"; package test.users; import "messages.proto"; import "enums.proto";
message Map { map<int32, .test.messages.Map> map = 1; }
message Uint8Array { bytes data = 1; .test.messages.Uint8Array other = 2; }
message Users { ${list(words, (word, index) => `.test.messages.${word} m${index} = ${index}; .test.enums.${word} e${index} = ${index + 5000};`)} }
${list(apart, (word, index) => `service User${index} { rpc Get(.test.messages.${word}) returns (.test.messages.${word}); }`)}`,
  "enums.proto": `syntax = "proto3"; package test.enums;
${list(words, (word, index) => `enum ${word} { ZERO_${index} = 0; }`)}`,
  "values.proto": `syntax = "proto3"; package test.values; message TestValues { TestValue value = 1; repeated TestValue list = 2; }
enum TestValue { TEST_VALUE_ZERO = 0; ${list(fields, (word, index) => `${word} = ${index};`)} }`,
  "fields.proto": `syntax = "proto3"; package test.fields;
message Fields { ${list(fields, (word, index) => `string ${word} = ${index};`)} }
message Optional { ${list(fields, (word, index) => `optional int32 ${word} = ${index};`)} }
message Members { oneof choice { ${list(fields, (word, index) => `string ${word} = ${index};`)} } }
message Oneofs { ${list(fields, (word, index) => `oneof ${word} { string field_${index} = ${index}; }`)} }`,
  "nested.proto": `syntax = "proto2"; package test.nested;
message A { message B { message C {} } optional group D_E = 1 {} extensions 100 to max; }
message A_B { optional A.B.C c = 1; } message A_B_C { optional A.B b = 1; }
extend A { optional string A_B_ = 100; optional string string = 101; }
message delete { extend A { optional string class = 102; } }
message snake_case { optional string foo_bar = 1; optional string fooBar = 2; optional string foo__bar = 3; oneof Foo_Bar { string x = 4; } }`,
  "rpcs.proto": `syntax = "proto3"; package test.rpcs; message Text { string text = 1; }
service Rpcs { ${list(apart, (word) => `rpc ${word}(Text) returns (Text);`)} }`,
  "services.proto": `syntax = "proto3"; package test.services; message Text { string text = 1; }
${list(
  apart.filter((word) => word !== "Text"),
  (word) => `service ${word} { rpc Echo(Text) returns (Text); }`,
)}`,
  // No compiler takes a package of that many parts.
  ...Object.fromEntries(
    parts.map((names, index) => [
      `package${index}.proto`,
      `syntax = "proto3"; package ${names.join(".")};
message Text { string text = 1; } service Echo { rpc Echo(Text) returns (Text); }`,
    ]),
  ),
};

describe("every word as a name", () => {
  it(
    "of a message, enum, value, field, oneof, extension, rpc, service and package: compiles and runs",
    { timeout: 120_000 },
    async () => {
      expect(words.length).toBeGreaterThan(300);
      await using work = await folder(files);
      const ended = await command(
        "-I",
        work.path,
        ...Object.keys(files).map((name) => join(work.path, name)),
        "--out",
        join(work.path, "gen"),
      );
      const told = ended.errors
        .split("\n")
        .filter((line) => line !== "" && !line.includes("Go clients cannot call it") && !line.includes("warning:"));
      expect(told).toEqual([]);
      expect(ended.code).toBe(0);
      expect((await typeCheck(work.path, "gen")).split("\n").slice(0, 20).join("\n")).toBe("");
      expect(await runBeside(work.path, program)).toBe("done\n");
    },
  );
});

/**
 * Everything is written and read in both forms, every rpc is called. Run without a type checker, which the generated code
 * itself goes through: its exports are gone through by name, and `any` stands where no type is known for that reason.
 */
const program = `
import assert from "node:assert/strict";
import { createService, memoryRegistry, memoryTransport, silentLogger } from "@micro/core";
import { ProtoType, Extension, getExtension, setExtension } from "@micro/core/proto";
import * as messages from "./gen/messages.ts";
import * as users from "./gen/users.ts";
import * as values from "./gen/values.ts";
import * as fields from "./gen/fields.ts";
import * as nested from "./gen/nested.ts";
import { Rpcs } from "./gen/rpcs.micro.ts";
import * as services from "./gen/services.micro.ts";
import "./gen/users.micro.ts"; import "./gen/package0.micro.ts"; import "./gen/enums.ts";

function roundTrip(type: ProtoType<any>, message: object): void {
  const complete = type.create(message);
  assert.deepEqual(type.decode(type.encode(message)), complete, type.$type);
  assert.deepEqual(type.fromJSON(JSON.parse(JSON.stringify(type.toJSON(message)))), complete, type.$type);
  assert.deepEqual(type.fromJSON(type.toJSON(message, { names: "proto" })), complete, type.$type);
  // What is not there is not found elsewhere.
  assert.deepEqual(type.encode({}), new Uint8Array(0), type.$type);
}
const all = (module: object) => Object.values(module).filter((value): value is ProtoType<any> => value instanceof ProtoType);
for (const type of all(messages)) {
  const self = { data: Uint8Array.from([1]), list: ["a"], byNumber: new Map([[5n, Uint8Array.from([2])]]), at: { seconds: 1n, nanos: 1 }, box: Uint8Array.from([3]), any: { typeUrl: "", value: new Uint8Array(0) } };
  roundTrip(type, { self, byText: { x: self }, choice: { $case: "other", value: self } });
}
roundTrip(users.Map, { map: { 7: { data: Uint8Array.from([1]) } } });
roundTrip(users.Uint8Array, { data: Uint8Array.from([1]) });
roundTrip(users.Users, Object.fromEntries(users.Users.fields.filter(({ type }) => type === "message").map(({ key }) => [key, { list: ["x"] }])));
for (const value of Object.values(values.TestValue)) roundTrip(values.TestValues, { value, list: [value] });
for (const { key } of fields.Fields.fields) { roundTrip(fields.Fields, { [key]: "x" }); roundTrip(fields.Members, { choice: { $case: key, value: "x" } }); roundTrip(fields.Optional, { [key]: 0 }); }
for (const { key, oneof } of fields.Oneofs.fields) roundTrip(fields.Oneofs, { [oneof!]: { $case: key, value: "x" } });
for (const type of all(nested)) roundTrip(type, {});
for (const { key, oneof } of nested.snake_case.fields) if (oneof === undefined) assert.deepEqual(nested.snake_case.decode(nested.snake_case.encode({ [key]: "x" })), nested.snake_case.create({ [key]: "x" }));
const extended = nested.A.create();
const extensions = Object.values(nested).filter((value): value is Extension<any, any> => value instanceof Extension);
assert.equal(extensions.length, 3);
for (const one of extensions) setExtension(extended, one, one.$extension);
for (const one of extensions) assert.equal(getExtension(nested.A.decode(nested.A.encode(extended)), one), one.$extension);

const service = createService({ name: "names", registry: memoryRegistry(), transport: memoryTransport(), handleSignals: false, logger: silentLogger, args: [], env: {} });
const keys = Object.keys(Rpcs.methods);
service.handle(Rpcs, Object.fromEntries(keys.map((key) => [key, () => ({ text: key })])) as any);
for (const [name, register] of Object.entries(services)) if (name.startsWith("register")) (register as any)(service, { echo: ({ text }: { text: string }) => ({ text: name + text }) });
await service.start();
const client = await service.client(Rpcs, { service: "names" }) as any;
for (const key of keys) assert.deepEqual(await client[key]({}), { text: key });
for (const [name, make] of Object.entries(services)) if (/^new[A-Z].*Service\\d*$/.test(name)) assert.equal(typeof (await (make as any)("names", service).echo({ text: "!" })).text, "string", name);
await service.stop();
console.log("done");
`;
