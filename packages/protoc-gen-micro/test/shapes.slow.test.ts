import { createFileRegistry, create, fromBinary, fromJson, toBinary, toJson, type JsonValue } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import type { ProtoType } from "@micro/core/proto";
import { compile } from "../src/compiler.ts";
import { runBeside, typeCheck } from "./support/compiled.ts";
import { command, folder } from "./support/generator.ts";

/** JSON of a type's values, the zero value first. Another protobuf library says what they are. */
const values: Readonly<Record<string, readonly JsonValue[]>> = {
  double: [0, -0.5, 1.7976931348623157e308, 5e-324, "NaN", "Infinity", "-Infinity"],
  // Of others, ours are written with as few digits as tell them apart, as Go does; protobuf-es writes all of a double.
  float: [0, 0.5, -1024.25, "NaN", "-Infinity"],
  int32: [0, 2147483647, -2147483648],
  int64: ["0", "9223372036854775807", "-9223372036854775808", "-1"],
  uint32: [0, 4294967295],
  uint64: ["0", "18446744073709551615"],
  sint32: [0, 2147483647, -2147483648],
  sint64: ["0", "9223372036854775807", "-9223372036854775808"],
  fixed32: [0, 4294967295],
  fixed64: ["0", "18446744073709551615"],
  sfixed32: [0, -2147483648],
  sfixed64: ["0", "-9223372036854775808"],
  bool: [false, true],
  string: ["", "José ✓ 𝄞", "\u0000\u2028", "x".repeat(300)],
  bytes: ["", "AAEC/w==", Buffer.alloc(200, 7).toString("base64")],
  Colour: ["ZERO", "RED", "NEGATIVE"],
  Inner: [{}, { text: "x" }, { inner: { inner: { text: "deep" } } }],
  "google.protobuf.Any": [
    {},
    { "@type": "type.googleapis.com/google.protobuf.Duration", value: "1.500s" },
    { "@type": "type.googleapis.com/matrix.Inner", text: "x" },
  ],
  "google.protobuf.Timestamp": [
    "1970-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
  ],
  "google.protobuf.Duration": ["0s", "-0.250s", "315576000000.999999999s", "-315576000000s"],
  "google.protobuf.FieldMask": ["", "userName,address.zipCode"],
  "google.protobuf.Empty": [{}],
  "google.protobuf.Struct": [{}, { a: null, b: [1, "x", { c: false }], "": 0 }],
  "google.protobuf.Value": [null, 0, "", false, [], {}, { a: [null] }, -1.5],
  "google.protobuf.ListValue": [[], [null, 1, [], {}]],
  "google.protobuf.NullValue": [null],
  "google.protobuf.DoubleValue": [0, 1.5, "NaN"],
  "google.protobuf.FloatValue": [0, 1.5],
  "google.protobuf.Int64Value": ["0", "-9223372036854775808"],
  "google.protobuf.UInt64Value": ["0", "18446744073709551615"],
  "google.protobuf.Int32Value": [0, -1],
  "google.protobuf.UInt32Value": [0, 4294967295],
  "google.protobuf.BoolValue": [false, true],
  "google.protobuf.StringValue": ["", "x"],
  "google.protobuf.BytesValue": ["", "AQ=="],
};
const types = Object.keys(values);
const keys: Readonly<Record<string, readonly string[]>> = {
  int32: ["0", "-1"],
  int64: ["0", "-9223372036854775808"],
  uint32: ["4294967295"],
  uint64: ["18446744073709551615"],
  sint32: ["-5"],
  sint64: ["-5"],
  fixed32: ["7"],
  fixed64: ["7"],
  sfixed32: ["-7"],
  sfixed64: ["-7"],
  bool: ["true", "false"],
  string: ["", "a b", "constructor"],
};

const lower = (type: string): string => type.replaceAll(".", "_").toLowerCase();

function proto(head: string, optional: string, required: string): string {
  let number = 1;
  const fields = types.flatMap((type) => [
    `${optional}${type} one_${lower(type)} = ${number++};`,
    ...(required === "" ? [] : [`${required}${type} present_${lower(type)} = ${number++};`]),
    `repeated ${type} many_${lower(type)} = ${number++};`,
    `map<string, ${type}> by_name_${lower(type)} = ${number++};`,
  ]);
  const maps = Object.keys(keys).map((key) => `map<${key}, Inner> by_${key} = ${number++};`);
  const members = types.map((type) => `${type} chosen_${lower(type)} = ${number++};`);
  return `${head}\npackage matrix;
import "google/protobuf/any.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto"; import "google/protobuf/struct.proto"; import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Colour { ZERO = 0; RED = 1; NEGATIVE = -3; }
message Inner { ${optional}string text = 1; ${optional}Inner inner = 2; }
message Everything {\n${[...fields, ...maps].join("\n")}\noneof choice {\n${members.join("\n")}\n}\n}`;
}

const files = {
  proto2: proto(`syntax = "proto2";`, "optional ", ""),
  proto3: proto(`syntax = "proto3";`, "", "optional "),
  editions: proto(`edition = "2023";`, "", ""),
  // Everything that an edition can turn round.
  delimited: proto(
    `edition = "2023"; option features.message_encoding = DELIMITED; option features.repeated_field_encoding = EXPANDED; option features.field_presence = IMPLICIT; option features.enum_type = OPEN;`,
    "",
    "",
  ),
};

it(
  "every scalar and well-known type × every shape × every syntax: compiles, and is what another library reads and writes",
  { timeout: 120_000 },
  async () => {
    let compared = 0;
    await using work = await folder(
      Object.fromEntries(Object.entries(files).map(([name, text]) => [`${name}/everything.proto`, text])),
    );
    for (const syntax of Object.keys(files)) {
      const root = join(work.path, syntax);
      expect(await command("-I", root, "everything.proto", "--out", join(work.path, "gen", syntax))).toMatchObject({
        code: 0,
        errors: "",
      });
      const { set } = await compile({ files: ["everything.proto"], protoPaths: [root] });
      const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: set.file }));
      const theirs = registry.getMessage("matrix.Everything")!;
      const { Everything, $types } = (await import(
        pathToFileURL(join(work.path, "gen", syntax, "everything.ts")).href
      )) as {
        Everything: ProtoType<any>;
        $types: never;
      };
      const { protoTypes } = await import("@micro/core/proto");
      const options = { types: protoTypes($types) };
      const examples: JsonValue[] = [];
      for (const { jsonName, ...field } of theirs.fields) {
        const type = (field.message ?? field.enum)?.typeName.replace(/^matrix\./, "") ?? scalarNames[field.scalar!]!;
        if (field.fieldKind === "list") examples.push({ [jsonName]: [...values[type]!] });
        else if (field.fieldKind === "map")
          examples.push({
            [jsonName]: jsonName.startsWith("byName")
              ? Object.fromEntries(values[type]!.map((value, index) => [`key ${index}`, value]))
              : Object.fromEntries(keys[scalarNames[field.mapKey]!]!.map((key) => [key, { text: key }])),
          });
        else examples.push(...values[type]!.map((value) => ({ [jsonName]: value })));
      }
      for (const json of examples) {
        const what = `${syntax}: ${JSON.stringify(json).slice(0, 200)}`;
        const message = fromJson(theirs, json, { registry });
        const bytes = toBinary(theirs, message);
        const ours = Everything.decode(bytes);
        expect(toJson(theirs, fromBinary(theirs, Everything.encode(ours)), { registry }), what).toEqual(
          toJson(theirs, message, { registry }),
        );
        expect(Everything.toJSON(ours, options), what).toEqual(toJson(theirs, message, { registry }));
        expect(Everything.fromJSON(json, options), what).toEqual(ours);
        expect(Everything.decode(Everything.encode(Everything.create(ours))), what).toEqual(ours);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(1000);
    expect(await typeCheck(work.path, "gen")).toBe("");
    expect(
      await runBeside(
        work.path,
        `import { Everything } from "./gen/proto3/everything.ts"; console.log(Everything.encode({ oneInt32: 5 }).length);`,
      ),
    ).toBe("2\n");
  },
);

const scalarNames: Readonly<Record<number, string>> = {
  1: "double",
  2: "float",
  3: "int64",
  4: "uint64",
  5: "int32",
  6: "fixed64",
  7: "fixed32",
  8: "bool",
  9: "string",
  12: "bytes",
  13: "uint32",
  15: "sfixed32",
  16: "sfixed64",
  17: "sint32",
  18: "sint64",
};
