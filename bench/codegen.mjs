/**
 * What protobuf messages cost: ours, ts-proto's as they stand behind core's `protoMessage`, and protobuf-es. A small, a
 * wide and a deep message and 1 MiB of bytes, over the same bytes.
 *
 *     node bench/codegen.mjs [--quick]
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const packages = new URL("../packages/", import.meta.url);
registerHooks({
  resolve(specifier, context, next) {
    if (specifier === "@micro/core") return next(new URL("core/src/index.ts", packages).href, context);
    if (specifier === "@micro/core/proto") return next(new URL("core/src/proto/index.ts", packages).href, context);
    if (specifier.startsWith("@bufbuild/protobuf"))
      return next(specifier, { ...context, parentURL: new URL("protoc-gen-micro/package.json", packages).href });
    return next(specifier, context);
  },
});
const { runCommand } = await import("../packages/protoc-gen-micro/src/command.ts");
const { compile } = await import("../packages/protoc-gen-micro/src/compiler.ts");
const { protoMessage } = await import("@micro/core");
const es = await import("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = await import("@bufbuild/protobuf/wkt");

const proto = `syntax = "proto3"; package bench;
message Small { string name = 1; int32 id = 2; bool on = 3; }
enum Kind { KIND_NONE = 0; KIND_A = 1; }
message Wide {
  string a = 1; string b = 2; int32 c = 3; int64 d = 4; uint32 e = 5; uint64 f = 6; double g = 7; float h = 8;
  bool i = 9; bytes j = 10; Kind k = 11; repeated string l = 12; repeated int32 m = 13; map<string, string> n = 14;
  map<int32, Small> o = 15; optional string p = 16; optional int64 q = 17; oneof choice { string r = 18; Small s = 19; }
  Small t = 20; repeated Small u = 21; fixed32 v = 22; fixed64 w = 23; sint32 x = 24; sint64 y = 25; repeated double z = 26;
}
message Deep { string name = 1; Deep inner = 2; repeated int32 numbers = 3; }
message Blob { bytes data = 1; }
`;
const small = { name: "John Smith", id: 123_456, on: true };
const wide = (choice) => ({
  a: "some text",
  b: "José ✓ a longer text with many more characters in it than before, some hundred of them",
  c: -5,
  d: 123_456_789_012_345n,
  e: 7,
  f: 9_007_199_254_740_993n,
  g: 1.5,
  h: 2.5,
  i: true,
  j: new Uint8Array(32).fill(7),
  k: 1,
  l: ["one", "two", "three"],
  m: Array.from({ length: 50 }, (_, index) => index * 1000),
  n: { a: "x", b: "y", c: "z" },
  o: { 1: { ...small, on: false }, 2: small },
  p: "here",
  q: 5n,
  choice,
  t: small,
  u: Array.from({ length: 10 }, () => small),
  v: 5,
  w: 5n,
  x: -3,
  y: -3n,
  z: [1.5, 2.5, 3.5],
});
const deep = (levels) => ({
  name: `level ${levels}`,
  numbers: [1, 2, 3],
  ...(levels > 1 && { inner: deep(levels - 1) }),
});
const blob = { data: new Uint8Array(1 << 20).fill(200) };
const messages = {
  Small: [small, small],
  Wide: [wide({ $case: "s", value: small }), wide({ case: "s", value: small })],
  Deep: [deep(50), deep(50)],
  Blob: [blob, blob],
};

const quick = process.argv.includes("--quick");
const rounds = quick ? 5 : 15;
const roundMs = quick ? 40 : 100;

/** Microseconds of each, medians of interleaved rounds. */
function compare(runs) {
  const times = runs.map(() => []);
  for (const run of runs) for (let index = 0; index < 30; index++) run();
  for (let round = 0; round < rounds; round++)
    for (const [index, run] of runs.entries()) {
      const started = performance.now();
      let count = 0;
      for (; performance.now() - started < roundMs; count += 10) for (let repeat = 0; repeat < 10; repeat++) run();
      times[index].push(((performance.now() - started) * 1000) / count);
    }
  return times.map((all) => all.toSorted((a, b) => a - b)[all.length >> 1]);
}

const folder = mkdtempSync(join(tmpdir(), "micro-bench-codegen-"));
try {
  writeFileSync(join(folder, "bench.proto"), proto);
  const file = join(folder, "bench.proto");
  const tell = { out: () => {}, error: (line) => console.error(line) };
  const generate = async (name, ...args) => {
    const code = await runCommand(
      ["-I", folder, file, "--out", join(folder, name), "--emit", "messages", ...args],
      tell,
    );
    assert.equal(code, 0);
    return import(pathToFileURL(join(folder, name, "bench.ts")).href);
  };
  const micro = await generate("micro");
  const tsProto = await generate("ts-proto", "--messages", "ts-proto");
  const { set } = await compile({ files: [file], protoPaths: [folder] });
  const registry = es.createFileRegistry(es.create(FileDescriptorSetSchema, { file: set.file }));

  console.log("| µs | @micro/core | ts-proto | protobuf-es |\n|---|---|---|---|");
  for (const [name, [literal, esLiteral]] of Object.entries(messages)) {
    const [ours, theirs, schema] = [micro[name], tsProto[name], registry.getMessage(`bench.${name}`)];
    const [core, coreTs] = [protoMessage(ours), protoMessage(theirs)];
    const bytes = ours.encode(literal);
    const [message, tsMessage, esMessage] = [ours.decode(bytes), theirs.decode(bytes), es.fromBinary(schema, bytes)];
    assert.deepEqual(ours.decode(theirs.encode(tsMessage).finish()), message);
    assert.deepEqual(ours.decode(es.toBinary(schema, esMessage)), message);
    const json = ours.toJSON(message);
    const rows = {
      "encode a decoded message": [
        () => ours.encode(message),
        () => theirs.encode(tsMessage).finish(),
        () => es.toBinary(schema, esMessage),
      ],
      "encode a literal, as a handler's answer": [
        () => core.binary.encode(literal),
        () => coreTs.binary.encode(literal),
        () => es.toBinary(schema, es.create(schema, esLiteral)),
      ],
      decode: [() => ours.decode(bytes), () => theirs.decode(bytes), () => es.fromBinary(schema, bytes)],
      "a literal to JSON text": [
        () => JSON.stringify(core.json.encode(literal)),
        () => JSON.stringify(coreTs.json.encode(literal)),
        () => JSON.stringify(es.toJson(schema, es.create(schema, esLiteral))),
      ],
      "a message from parsed JSON": [
        () => core.json.decode(json),
        () => coreTs.json.decode(json),
        () => es.fromJson(schema, json),
      ],
    };
    for (const [what, runs] of Object.entries(rows)) {
      const [mine, ...others] = compare(runs);
      const cells = others.map((time) => `${time.toFixed(2)} (${(time / mine).toFixed(2)}×)`);
      console.log(`| ${name}, ${what} | ${mine.toFixed(2)} | ${cells.join(" | ")} |`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
