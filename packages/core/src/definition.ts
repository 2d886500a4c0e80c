/**
 * Service definitions: one object that client, handler type, registry endpoints and codecs all read.
 *
 * `protoc-gen-micro` writes them from `.proto` files; `defineService()` in `schema.ts` makes them from any Standard Schema
 * validator. Calling by name needs none.
 */
import type { StringMap, Value } from "./registry/registry.ts";

/** Unary, or which side streams. */
export type MethodKind = "unary" | "server" | "client" | "bidi";

/** What a codec says of what is to be read, since it knows how much was sent. */
export interface DecodeLimits {
  /** Estimate of the memory that the message may take, on the high side, without what was sent. Default: what the type finds right. */
  readonly maxMemoryBytes?: number | undefined;
}

/**
 * One message type: how it is encoded, checked and described. All members but the name are optional: without `binary`
 * it has no protobuf form, without `json` its JSON form is the value itself.
 *
 * `In` is what a sender passes, `Out` what a receiver gets; they differ where a schema fills defaults or transforms.
 */
export interface MessageType<In = unknown, Out = In> {
  /** Type name as Go would print it, without package, e.g. `HelloRequest`. */
  readonly name: string;
  readonly binary?:
    | { encode(message: In): Uint8Array; decode(bytes: Uint8Array, limits?: DecodeLimits): Out }
    | undefined;
  readonly json?:
    | {
        encode(message: In): unknown;
        decode(value: unknown, limits?: DecodeLimits): Out;
        /** Integers of more digits than a number holds are decoded from: `text`, or `bigint`. Default: `text`. */
        readonly integers?: "text" | "bigint" | undefined;
        /** A member that an object has twice is an error. Default: false, the last one counts. */
        readonly uniqueMembers?: boolean | undefined;
      }
    | undefined;
  /**
   * Check a decoded message, or one about to be sent by a handler.
   * @throws {MicroError} or rejects with `bad_request` that names the field.
   */
  readonly validate?: ((message: unknown) => Out | Promise<Out>) | undefined;
  /** Nothing (undefined, null) is no message: a handler that answers with it is told. Default: it travels as the empty message. */
  readonly required?: boolean | undefined;
  /** Description for the registry. Default: name and type are `name`, no fields. */
  readonly value?: Value | undefined;
}

/** A binding of `google.api.http`, or one written by hand. */
export interface HttpRoute {
  /** `GET`, `POST`, …, or a custom verb. */
  readonly method: string;
  readonly path: string;
  /** Field that takes the request body; `*` for all. */
  readonly body?: string;
  /** Field of the response that becomes the body. */
  readonly responseBody?: string;
}

export interface MethodDefinition<
  ReqIn = any,
  ReqOut = ReqIn,
  ResIn = any,
  ResOut = ResIn,
  Kind extends MethodKind = MethodKind,
> {
  /** Name on the wire, e.g. `Hello`. */
  readonly name: string;
  readonly kind: Kind;
  readonly request: MessageType<ReqIn, ReqOut>;
  readonly response: MessageType<ResIn, ResOut>;
  readonly http?: readonly HttpRoute[] | undefined;
  /**
   * Metadata of the registered endpoint, over what `http` gives; an empty object leaves that out. Default: what `http`
   * gives. `stream: "true"` is added for streams.
   */
  readonly metadata?: StringMap | undefined;
}

/** Methods by the name they have in code, e.g. `hello`. */
export type MethodDefinitions = Readonly<Record<string, MethodDefinition>>;

export interface ServiceDefinition<Methods extends MethodDefinitions = MethodDefinitions> {
  /** The micro service name a client calls unless told otherwise, e.g. `greeter` or `go.micro.srv.greeter`. */
  readonly service: string;
  /** First part of the endpoint names, e.g. `Greeter`. */
  readonly type: string;
  readonly methods: Methods;
  /** Content type of calls by this definition. Default: `application/json` for schemas, `application/protobuf` for protos. */
  readonly contentType: string;
}

/** Something that can be streamed from a handler or into a client. */
export type Streamable<T> = AsyncIterable<T> | Iterable<T>;
