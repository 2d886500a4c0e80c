/**
 * What Google's conformance runner talks to: reads a message in one form, writes it in another. Everything goes the way
 * of a service's messages, through core's codecs.
 *
 *     node --import=HOOKS testee.mjs FOLDER-OF-GENERATED-CODE
 */
import { readSync, writeSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}.ts`).href);
const { jsonCodec, protoCodec, protoMessage } = await import("@micro/core");
const { protoTypes } = await import("@micro/core/proto");
const { ConformanceRequest, ConformanceResponse, FailureSet, TestCategory, WireFormat } =
  await load("conformance/conformance");
const files = ["proto2", "proto3", "proto2_editions", "proto3_editions", "edition2023"];
const modules = await Promise.all(files.map((name) => load(`google/protobuf/test_messages_${name}`)));

const messages = (options) =>
  new Map(
    modules
      .flatMap(({ $types }) => $types.types())
      .filter((type) => "$type" in type)
      .map((type) => [type.$type, protoMessage(type, { ...options, types: () => known })]),
  );
const known = protoTypes(modules.flatMap(({ $types }) => $types.types()));
const strict = messages({});
const lenient = messages({ ignoreUnknownFields: true });

function answer({ messageType, testCategory, payload, requestedOutputFormat }) {
  if (messageType === "conformance.FailureSet") return { $case: "protobufPayload", value: FailureSet.encode({}) };
  const isLenient = testCategory === TestCategory.JSON_IGNORE_UNKNOWN_PARSING_TEST;
  const type = (isLenient ? lenient : strict).get(messageType);
  if (type === undefined) return { $case: "skipped", value: `${messageType} is not known` };
  let message;
  try {
    if (payload.$case === "protobufPayload") message = protoCodec.decode(payload.value, type);
    else if (payload.$case === "jsonPayload") message = jsonCodec.decode(Buffer.from(payload.value), type);
    else return { $case: "skipped", value: "this form is not supported" };
  } catch (error) {
    return { $case: "parseError", value: String(error) };
  }
  try {
    if (requestedOutputFormat === WireFormat.PROTOBUF)
      return { $case: "protobufPayload", value: protoCodec.encode(message, type) };
    if (requestedOutputFormat === WireFormat.JSON)
      return { $case: "jsonPayload", value: Buffer.from(jsonCodec.encode(message, type)).toString() };
    return { $case: "skipped", value: "this form is not supported" };
  } catch (error) {
    return { $case: "serializeError", value: String(error) };
  }
}

/** @returns undefined at the end of the input */
function read(length) {
  const buffer = Buffer.alloc(length);
  for (let offset = 0; offset < length;) {
    const count = again(() => readSync(0, buffer, offset, length - offset, null));
    if (count === 0) return undefined;
    offset += count;
  }
  return buffer;
}

function write(buffer) {
  for (let offset = 0; offset < buffer.length;) offset += again(() => writeSync(1, buffer, offset));
}

/** Pipes may be in a mode in which they do not wait. */
function again(act) {
  for (;;)
    try {
      return act();
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
}

for (let head = read(4); head !== undefined; head = read(4)) {
  const request = ConformanceRequest.decode(read(head.readUInt32LE()));
  const response = ConformanceResponse.encode({ result: answer(request) });
  const length = Buffer.alloc(4);
  length.writeUInt32LE(response.length);
  write(Buffer.concat([length, response]));
}
