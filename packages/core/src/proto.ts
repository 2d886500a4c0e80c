/**
 * Message types from objects in the style of ts-proto: what generated code has anyway, as a {@link MessageType}.
 *
 * JSON is written as proto3 JSON with lowerCamel names, which every version of go-micro reads. What Go writes is
 * read in both spellings: up to v5.13 it uses the names of the .proto file (`first_name`), later ones lowerCamel. A
 * `oneof` is written by those older versions under the name of a Go field that no .proto file has; it is read where
 * `oneofs` says that name.
 */
import type { DecodeLimits, MessageType, MethodDefinition, MethodKind } from "./definition.ts";
import { checkOptionNames, type OptionNames } from "./option-check.ts";
import { optionKinds } from "./option-kinds.ts";
import { describeMessage } from "./proto/describe.ts";
import { bare, lowerCamel } from "./proto/table.ts";
import type { Value } from "./registry/registry.ts";
import { MicroError } from "./errors.ts";

/** The functions that ts-proto generates for a message; `fromJSON`, `toJSON` and `fromPartial` are options of it. */
export interface ProtoMessageFunctions<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(input: Uint8Array): T;
  // Methods, so that the stricter parameter types of generated code fit.
  fromJSON?(object: any): T;
  toJSON?(message: T): unknown;
  fromPartial?(object: any): T;
  /** Full name, e.g. `greeter.HelloRequest`, with ts-proto's option `outputTypeRegistry` or `outputTypeAnnotations`. */
  readonly $type?: string;
}

/** A message type as `protoc-gen-micro` generates it: `ProtoType` of `@micro/core/proto`. */
export interface ProtoMessageType<T> {
  /** Full name, e.g. `greeter.HelloRequest`. */
  readonly $type: string;
  readonly fields: readonly unknown[];
  // What a message is follows from what is read; input is any part of it.
  encode(message: any): Uint8Array;
  decode(bytes: Uint8Array, limits?: DecodeLimits): T;
  fromJSON(value: unknown, options?: ProtoMessageJson & DecodeLimits): T;
  toJSON(message: any, options?: ProtoMessageJson): unknown;
}

interface ProtoMessageJson {
  readonly ignoreUnknownFields?: boolean | undefined;
  readonly names?: "camel" | "proto" | undefined;
  readonly types?: ReadonlyMap<string, any> | undefined;
}

export interface ProtoMessageOptions {
  /** Type name for the registry and error texts. Default: the last part of `$type`, else `Message`. */
  name?: string | undefined;
  /** Description for the registry. Default: from the fields of a message of `protoc-gen-micro`; of ts-proto's the name only. */
  value?: Value | undefined;
  /**
   * Names that the oneofs of this message, and of those inside it, have in Go, e.g. `Choice`. go-micro up to v5.13
   * writes `{"Choice": {"ChosenText": "x"}}` for what proto3 JSON has as `{"chosenText": "x"}`. Default: none.
   */
  oneofs?: readonly string[] | undefined;
  /**
   * Pass over fields and names of enums in JSON that are not known here. Default: false, the caller gets a 400 that names
   * the field, as in Go. For messages of `protoc-gen-micro`; ts-proto's pass over them always.
   */
  ignoreUnknownFields?: boolean | undefined;
  /** Names of fields in JSON that is written; read are both. Default: `camel`. For messages of `protoc-gen-micro`. */
  jsonNames?: "camel" | "proto" | undefined;
  /**
   * Types that an `Any` in the message may hold, for its JSON, and extensions: `() => protoTypes([Invoice])` of
   * `@micro/core/proto`; called when they are first needed. Those of `google.protobuf` are always known. For messages of `protoc-gen-micro`.
   */
  types?: (() => ReadonlyMap<string, any>) | undefined;
}

const optionNames: OptionNames<ProtoMessageOptions> = {
  name: true,
  value: true,
  oneofs: true,
  ignoreUnknownFields: true,
  jsonNames: true,
  types: optionKinds.function,
};

type Leaf = Date | Uint8Array | string | number | boolean | bigint | undefined | null | ((...args: never[]) => unknown);

/** What a sender passes for a message: fields left out have their zero value, as in Go. */
export type ProtoInput<T> = T extends Leaf
  ? T
  : T extends readonly (infer Element)[]
    ? readonly ProtoInput<Element>[]
    : T extends { $case: string }
      ? { [Key in keyof T]: Key extends "$case" ? T[Key] : ProtoInput<T[Key]> }
      : { readonly [Key in keyof T as Key extends "$type" ? never : Key]?: ProtoInput<T[Key]> | undefined };

/** A method whose messages are protobuf's, as generated definitions have it: senders may leave fields out, receivers get all. */
export type ProtoMethod<Request, Response, Kind extends MethodKind = "unary"> = MethodDefinition<
  ProtoInput<Request>,
  Request,
  ProtoInput<Response>,
  Response,
  Kind
>;

/**
 * Make a message type of a generated message: `protoMessage(HelloRequest, { name: "HelloRequest" })`.
 * @throws {TypeError} if `functions` has no `encode` and `decode`, or for an option that does not exist.
 */
export function protoMessage<T>(
  functions: ProtoMessageType<T>,
  options?: ProtoMessageOptions,
): MessageType<ProtoInput<T>, T>;
export function protoMessage<T>(
  functions: ProtoMessageFunctions<T>,
  options?: ProtoMessageOptions,
): MessageType<ProtoInput<T>, T>;
export function protoMessage<T>(
  functions: ProtoMessageType<T> | ProtoMessageFunctions<T>,
  options: ProtoMessageOptions = {},
): MessageType<ProtoInput<T>, T> {
  if (typeof functions?.encode !== "function" || typeof functions.decode !== "function")
    throw new TypeError("protoMessage: pass a message that protoc-gen-micro or ts-proto generates");
  checkOptionNames("protoMessage", options, optionNames);
  const name = options.name ?? (functions.$type?.split(".").at(-1) || "Message");
  return "fields" in functions ? ownMessage(functions, name, options) : tsProtoMessage(functions, name, options);
}

function ownMessage<T>(
  type: ProtoMessageType<T>,
  name: string,
  { value, ignoreUnknownFields, jsonNames, types }: ProtoMessageOptions,
): MessageType<ProtoInput<T>, T> {
  let json: ProtoMessageJson | undefined;
  let described = value;
  // A handler of `Empty` has nothing to return.
  const orNothing = (message: unknown): unknown => (message === undefined && type.fields.length === 0 ? {} : message);
  const settings = (): ProtoMessageJson =>
    (json ??= {
      ignoreUnknownFields,
      names: jsonNames,
      types: types?.(),
    });
  return {
    name,
    binary: {
      encode: (message) => type.encode(orNothing(message)),
      decode: (bytes, limits) => type.decode(bytes, limits),
    },
    json: {
      encode: (message) => type.toJSON(orNothing(message), settings()),
      decode: (found, limits) => type.fromJSON(found, limits === undefined ? settings() : { ...settings(), ...limits }),
      integers: "bigint",
      uniqueMembers: true,
    },
    get required() {
      return type.fields.length > 0;
    },
    // On first use: types may need each other, and only servers ask.
    get value() {
      return (described ??= describeMessage(name, type));
    },
  };
}

function tsProtoMessage<T>(
  functions: ProtoMessageFunctions<T>,
  name: string,
  options: ProtoMessageOptions,
): MessageType<ProtoInput<T>, T> {
  const oneofs = options.oneofs ?? [];
  // Generated encoders trust their input: a missing number would become NaN. Zero values are what is meant.
  const complete = (message: ProtoInput<T>): T =>
    functions.fromPartial === undefined ? (message as T) : functions.fromPartial(checked(name, message));
  return {
    name,
    binary: {
      encode: (message) => functions.encode(complete(message)).finish(),
      decode: (bytes) => functions.decode(bytes),
    },
    json: {
      encode: (message) => (functions.toJSON === undefined ? message : functions.toJSON(complete(message))),
      decode: (value) => {
        if (functions.fromJSON === undefined) return value as T;
        // Well-known types such as google.protobuf.Value have other forms than objects.
        const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
        if (!isObject && !functions.$type?.startsWith("google.protobuf.")) throw notAnObject(name, value);
        return functions.fromJSON(eitherSpelling(value, oneofs));
      },
    },
    value: options.value,
  };
}

function checked(name: string, message: unknown): unknown {
  if (message === undefined) return {};
  if (typeof message !== "object" || message === null || Array.isArray(message)) throw notAnObject(name, message);
  return message;
}

function notAnObject(name: string, value: unknown): MicroError {
  const found = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
  return new MicroError(`${name} is an object, not ${found}`, { id: "codec.proto", code: "codec" });
}

/**
 * A view of a JSON value in which a field is found under either spelling of its name. `fromJSON` asks for fields by
 * name, but enumerates maps, whose keys are data: a view answers the first and leaves the second alone, which no
 * renaming of keys could without knowing the types.
 */
function eitherSpelling(value: unknown, oneofs: readonly string[]): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((element) => eitherSpelling(element, oneofs));
  return new Proxy(value as Record<string, unknown>, {
    get(target, key) {
      if (typeof key !== "string") return undefined;
      if (Object.hasOwn(target, key)) return eitherSpelling(target[key], oneofs);
      const wanted = lowerCamel(key);
      for (const candidate of Object.keys(target))
        if (lowerCamel(candidate) === wanted) return eitherSpelling(target[candidate], oneofs);
      for (const oneof of oneofs) {
        const chosen: unknown = Object.hasOwn(target, oneof) ? target[oneof] : undefined;
        if (typeof chosen !== "object" || chosen === null) continue;
        // One member, under the name of its Go field: `chosen_text` is `ChosenText`.
        for (const [candidate, member] of Object.entries(chosen))
          if (bare(candidate) === bare(key)) return eitherSpelling(member, oneofs);
      }
      return undefined;
    },
  });
}
