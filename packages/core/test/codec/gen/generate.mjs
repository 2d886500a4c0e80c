// Writes greeter.ts beside this file with ts-proto, from a descriptor built here, so that no protoc is needed.
//   node packages/core/test/codec/gen/generate.mjs
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const tsProto = createRequire(require.resolve("ts-proto"));
const { CodeGeneratorRequest, CodeGeneratorResponse, FieldDescriptorProto_Label: label, FieldDescriptorProto_Type: type } =
  tsProto("ts-proto-descriptors");

const field = (name, number, kind, more = {}) => ({
  name,
  number,
  type: kind,
  label: label.LABEL_OPTIONAL,
  jsonName: name.replace(/_(.)/g, (_, letter) => letter.toUpperCase()),
  ...more,
});
const repeated = { label: label.LABEL_REPEATED };
const message = (typeName) => ({ typeName: `.greeter.${typeName}` });
const entry = (name, value) => ({
  name,
  field: [field("key", 1, type.TYPE_STRING), value],
  options: { mapEntry: true },
});

const file = {
  name: "greeter.proto",
  package: "greeter",
  syntax: "proto3",
  enumType: [
    {
      name: "Mood",
      value: [
        { name: "MOOD_UNSPECIFIED", number: 0 },
        { name: "MOOD_GLAD", number: 1 },
      ],
    },
  ],
  messageType: [
    { name: "HelloRequest", field: [field("name", 1, type.TYPE_STRING)] },
    { name: "HelloResponse", field: [field("msg", 1, type.TYPE_STRING)] },
    {
      name: "Profile",
      field: [
        field("user_id", 1, type.TYPE_INT64),
        field("first_name", 2, type.TYPE_STRING),
        field("photo_data", 3, type.TYPE_BYTES),
        field("mood", 4, type.TYPE_ENUM, message("Mood")),
        field("next_of_kin", 5, type.TYPE_MESSAGE, message("Profile")),
        field("past_names", 6, type.TYPE_STRING, repeated),
        field("by_key", 7, type.TYPE_MESSAGE, { ...message("Profile.ByKeyEntry"), ...repeated }),
        field("profiles_by_key", 8, type.TYPE_MESSAGE, { ...message("Profile.ProfilesByKeyEntry"), ...repeated }),
        field("height_metres", 9, type.TYPE_DOUBLE),
        field("is_admin", 10, type.TYPE_BOOL),
      ],
      nestedType: [
        entry("ByKeyEntry", field("value", 2, type.TYPE_STRING)),
        entry("ProfilesByKeyEntry", field("value", 2, type.TYPE_MESSAGE, message("Profile"))),
      ],
    },
  ],
};

const request = CodeGeneratorRequest.encode(
  CodeGeneratorRequest.fromPartial({
    fileToGenerate: [file.name],
    protoFile: [file],
    parameter: "esModuleInterop=true,importSuffix=.ts,forceLong=bigint,enumsAsLiterals=true,outputServices=none",
  }),
).finish();
const plugin = require.resolve("ts-proto").replace("build/src/plugin.js", "protoc-gen-ts_proto");
const run = spawnSync(process.execPath, [plugin], { input: request, maxBuffer: 1 << 26 });
if (run.status !== 0) throw new Error(String(run.stderr));
const response = CodeGeneratorResponse.decode(run.stdout);
if (response.error) throw new Error(response.error);
for (const { name, content } of response.file)
  writeFileSync(fileURLToPath(new URL(name, import.meta.url)), content);
