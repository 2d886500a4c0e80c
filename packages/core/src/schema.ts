/**
 * Definitions from TypeScript: `defineService("greeter", { hello: unary({ request, response }) })`, where request and
 * response are Standard Schema validators (zod, valibot, arktype, …).
 *
 * Types: a client passes the request's input; a handler receives its output and returns the response's input; the client
 * receives what JSON makes of the response's output. The server validates both. What JSON makes of a request's input must be
 * such an input again: `z.date()` is none, since a date arrives as text; `z.coerce.date()` takes it.
 */
import type {
  HttpRoute,
  MessageType,
  MethodDefinition,
  MethodDefinitions,
  MethodKind,
  ServiceDefinition,
} from "./definition.ts";
import { type Issue, MicroError } from "./errors.ts";
import type { JsonAnswer, JsonForm, SurvivesJson } from "./json-form.ts";
import { checkOptionNames, type OptionNames } from "./option-check.ts";
import type { StringMap, Value } from "./registry/registry.ts";
import { valueOfJsonSchema } from "./registry/values.ts";
import type {
  InferInput,
  InferOutput,
  StandardIssue,
  StandardJsonSchemaConverter,
  StandardSchema,
} from "./standard-schema.ts";

/** One side of a method: a validator, or a message type such as {@link jsonMessage} and `protoMessage()` give. */
export type MessageSource = StandardSchema | MessageType<any, any>;

/**
 * A message as `protoc-gen-micro` and ts-proto generate it. It is no message type: `protoMessage(HelloRequest)` makes one of
 * it. Taken by types so that they can say so.
 */
export interface GeneratedMessage {
  encode(message: any): unknown;
  decode(bytes: Uint8Array): unknown;
  fromJSON?(value: any): unknown;
  toJSON?(message: any): unknown;
}

/** The error of a generated message where a message type belongs, or nothing that has to be known. */
export type NoGenerated<Source, Place extends string> = [Source] extends [never]
  ? unknown
  : Source extends MessageSource
    ? unknown
    : Source extends GeneratedMessage
      ? { readonly [Key in Place]: "this is a generated message: pass protoMessage(X)" }
      : unknown;

/** What a sender of the message passes. */
export type SourceInput<Source extends MessageSource | GeneratedMessage> = Source extends StandardSchema
  ? InferInput<Source>
  : Source extends MessageType<infer In, any>
    ? In
    : never;

/** What a receiver of the message gets who validates it: a handler of a request, a subscriber. */
export type SourceOutput<Source extends MessageSource | GeneratedMessage> = Source extends StandardSchema
  ? InferOutput<Source>
  : Source extends MessageType<any, infer Out>
    ? Out
    : never;

/** What a caller gets of a response: its validator's output as JSON brings it. */
export type SourceAnswer<Source extends MessageSource | GeneratedMessage> = Source extends StandardSchema
  ? JsonAnswer<InferOutput<Source>>
  : SourceOutput<Source>;

/**
 * Nothing that has to be known, or the error of a validator whose input does not survive JSON: what it takes is not what
 * would arrive.
 */
export type Travels<Source, Place extends string> = [Source] extends [never]
  ? unknown
  : Source extends StandardSchema
    ? SurvivesJson<InferInput<Source>> extends true
      ? unknown
      : {
          readonly [
            Key in Place
          ]: "this validator cannot take what arrives: JSON has no dates, bigints, bytes, maps or sets. Take their text, as z.coerce.date() and z.iso.datetime() do";
        }
    : unknown;

/**
 * A message that is plain JSON and not checked, where only its type is wanted: `jsonMessage<{ name: string }>("HelloRequest")`.
 * What arrives is what JSON makes of it: a `Date` is a text.
 */
export function jsonMessage<T>(name: string, value?: Value): MessageType<T, JsonForm<T>> {
  return { name, value };
}

/**
 * Nothing, as a request or a response: `ping: unary({ request: empty, response: empty })`. It travels as an object without
 * members, as protobuf's `Empty` does. Validators that take nothing, such as `z.void()`, do as well.
 */
export const empty: MessageType<void, void> = Object.freeze({ name: "Empty", validate: () => undefined });

export interface SchemaMethodOptions<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
> {
  /** What one request must be; on client streams and bidirectional ones, each of them. */
  request: Request;
  /** What one response must be; on server streams and bidirectional ones, each of them. */
  response: Response;
  /** HTTP routes for gateways and OpenAPI. Default: none. */
  http?: HttpRoute | readonly HttpRoute[] | undefined;
  /** Metadata of the registered endpoint. Default: none. */
  metadata?: StringMap | undefined;
  /** Descriptions for the registry, for validators that cannot describe themselves. Default: from the validator's JSON Schema, else the name only. */
  value?: { request?: Value | undefined; response?: Value | undefined } | undefined;
}

/** A method made from two validators. */
export type SchemaMethod<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
  Kind extends MethodKind,
> = MethodDefinition<SourceInput<Request>, SourceOutput<Request>, SourceInput<Response>, SourceAnswer<Response>, Kind>;

export interface DefineServiceOptions {
  /** First part of the endpoint names. Default: the last part of the service name in capitals: `go.micro.srv.user-profile` is `UserProfile`. */
  type?: string | undefined;
  /** Content type of calls by this definition. Default: `application/json`. */
  contentType?: string | undefined;
}

/** One request, one response. @throws {TypeError} if `request` or `response` is neither a validator nor a message type. */
export function unary<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
>(
  options: SchemaMethodOptions<Request, Response> &
    Travels<Request, "request"> &
    NoGenerated<Request, "request"> &
    NoGenerated<Response, "response">,
): SchemaMethod<Request, Response, "unary"> {
  return method("unary", options);
}

/** One request, many responses: the handler is a generator. @throws {TypeError} as {@link unary}. */
export function serverStream<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
>(
  options: SchemaMethodOptions<Request, Response> &
    Travels<Request, "request"> &
    NoGenerated<Request, "request"> &
    NoGenerated<Response, "response">,
): SchemaMethod<Request, Response, "server"> {
  return method("server", options);
}

/** Many requests, one response. @throws {TypeError} as {@link unary}. */
export function clientStream<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
>(
  options: SchemaMethodOptions<Request, Response> &
    Travels<Request, "request"> &
    NoGenerated<Request, "request"> &
    NoGenerated<Response, "response">,
): SchemaMethod<Request, Response, "client"> {
  return method("client", options);
}

/** Many requests, many responses. @throws {TypeError} as {@link unary}. */
export function bidiStream<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
>(
  options: SchemaMethodOptions<Request, Response> &
    Travels<Request, "request"> &
    NoGenerated<Request, "request"> &
    NoGenerated<Response, "response">,
): SchemaMethod<Request, Response, "bidi"> {
  return method("bidi", options);
}

/**
 * Define a service. A method's name on the wire is its key with a capital first letter: `hello` is `Greeter.Hello`.
 * @throws {TypeError} for an empty service name, a key that is no method name, or two keys with one name on the wire.
 */
export function defineService<const Methods extends MethodDefinitions>(
  service: string,
  methods: Methods,
  options: DefineServiceOptions = {},
): ServiceDefinition<Methods> {
  if (typeof service !== "string" || service === "") throw new TypeError("defineService: the service name is empty");
  checkOptionNames("defineService", options, { type: true, contentType: true });
  const type = options.type ?? typeName(service);
  if (!/^\p{Lu}[\p{L}\p{N}_]*$/u.test(type))
    throw new TypeError(
      `defineService: ${JSON.stringify(type)} is not a type name: pass \`type\`, letters and digits with a capital first`,
    );
  const named = new Map<string, [key: string, method: MethodDefinition]>();
  for (const [key, definition] of Object.entries(methods)) {
    // A client with a member `then` would be taken for a promise.
    if (!/^\p{L}[\p{L}\p{N}_]*$/u.test(key) || key === "then")
      throw new TypeError(`defineService: ${JSON.stringify(key)} cannot be a method name`);
    const name = capitalised(key);
    const taken = named.get(name);
    if (taken !== undefined)
      throw new TypeError(`defineService: methods \`${taken[0]}\` and \`${key}\` are both ${type}.${name} on the wire`);
    named.set(name, [key, withName(definition, name)]);
  }
  return {
    service,
    type,
    methods: Object.fromEntries(named.values()) as unknown as Methods,
    contentType: options.contentType ?? "application/json",
  };
}

/** `go.micro.srv.user-profile` is `UserProfile`. */
function typeName(service: string): string {
  return pascalCase(service.split(".").at(-1)!);
}

/** `user-profile` is `UserProfile`. @internal */
export function pascalCase(name: string): string {
  return name
    .split(/[^\p{L}\p{N}]+/u)
    .map(capitalised)
    .join("");
}

function capitalised(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

const methodOptionNames: OptionNames<SchemaMethodOptions<MessageSource, MessageSource>> = {
  request: true,
  response: true,
  http: true,
  metadata: true,
  value: true,
};

/** Under this a method keeps what it is made of, until the service gives it its name. */
const parts = Symbol("micro.schema");

interface SchemaParts {
  readonly [parts]?: SchemaMethodOptions<MessageSource, MessageSource>;
}

function method<
  Request extends MessageSource | GeneratedMessage,
  Response extends MessageSource | GeneratedMessage,
  Kind extends MethodKind,
>(kind: Kind, options: SchemaMethodOptions<Request, Response>): SchemaMethod<Request, Response, Kind> {
  const maker = kind === "unary" ? kind : `${kind}Stream`;
  for (const side of ["request", "response"] as const)
    if (!isSchema(options?.[side]) && !isMessageType(options?.[side]))
      throw (
        generatedFault(`${maker}: \`${side}\``, options?.[side]) ??
        new TypeError(
          `${maker}: \`${side}\` is neither a Standard Schema validator (zod, valibot, arktype, …) nor a message type`,
        )
      );
  const { http, metadata } = options;
  const sources = options as unknown as SchemaMethodOptions<MessageSource, MessageSource>;
  checkOptionNames(maker, sources, methodOptionNames);
  checkOptionNames(`${maker}: value`, options.value, { request: true, response: true });
  const definition: SchemaMethod<Request, Response, Kind> & SchemaParts = {
    [parts]: sources,
    name: "",
    kind,
    request: messageType("Request", sources.request, options.value?.request, false) as MessageType<
      SourceInput<Request>,
      SourceOutput<Request>
    >,
    // By its output as JSON brings it, which types alone know of.
    response: messageType("Response", sources.response, options.value?.response, true) as MessageType<
      SourceInput<Response>,
      SourceAnswer<Response>
    >,
    http: http === undefined || Array.isArray(http) ? (http as readonly HttpRoute[] | undefined) : [http as HttpRoute],
    metadata,
  };
  return definition;
}

function withName(definition: MethodDefinition, name: string): MethodDefinition {
  const { [parts]: options, ...rest } = definition as MethodDefinition & SchemaParts;
  if (options === undefined) return { ...definition, name: definition.name === "" ? name : definition.name };
  return {
    ...rest,
    name,
    request: messageType(`${name}Request`, options.request, options.value?.request, false),
    response: messageType(`${name}Response`, options.response, options.value?.response, true),
  };
}

/** @internal */
export function isSchema(source: unknown): source is StandardSchema {
  return typeof (source as StandardSchema | undefined)?.["~standard"]?.validate === "function";
}

/** Not a function: a class has a name as well. @internal */
export function isMessageType(source: unknown): source is MessageType {
  return typeof source === "object" && typeof (source as MessageType | null)?.name === "string";
}

/** The error of a message that is generated, where a message type belongs. @param what begins its text @internal */
export function generatedFault(what: string, source: unknown): TypeError | undefined {
  const { encode, decode, $type } = (source ?? {}) as Partial<GeneratedMessage> & { readonly $type?: unknown };
  if (typeof encode !== "function" || typeof decode !== "function") return undefined;
  const name = typeof $type === "string" && $type !== "" ? $type.split(".").at(-1)! : "X";
  return new TypeError(`${what} is a generated message: pass protoMessage(${name})`);
}

/** @internal */
export function messageType<Source extends MessageSource>(
  name: string,
  source: Source,
  value: Value | undefined,
  isResponse: boolean,
): MessageType<SourceInput<Source>, SourceOutput<Source>> {
  // A validator of arktype has a name as well: what it can check decides.
  return isSchema(source)
    ? (schemaMessage(name, source, value, isResponse) as MessageType<SourceInput<Source>, SourceOutput<Source>>)
    : (source as MessageType<SourceInput<Source>, SourceOutput<Source>>);
}

function schemaMessage<Schema extends StandardSchema>(
  name: string,
  schema: Schema,
  value: Value | undefined,
  isResponse: boolean,
): MessageType<InferInput<Schema>, InferOutput<Schema>> {
  const { validate } = schema["~standard"];
  const accept = (result: Awaited<ReturnType<typeof validate>>): InferOutput<Schema> => {
    if (result.issues === undefined) return result.value;
    throw new MicroError(describeIssues(result.issues), { code: "bad_request", issues: result.issues.map(issueOf) });
  };
  // Nothing travels as an object without members: what takes that is asked first, then what takes nothing.
  const retry = (message: unknown, failed: Awaited<ReturnType<typeof validate>>): any => {
    if (failed.issues === undefined || !isEmptyObject(message)) return accept(failed);
    const result = validate(undefined);
    return result instanceof Promise ? result.then((second) => either(second, failed)) : either(result, failed);
  };
  const either = (result: Awaited<ReturnType<typeof validate>>, failed: typeof result): InferOutput<Schema> =>
    accept(result.issues === undefined ? result : failed);
  let described = value;
  return {
    name,
    validate(message) {
      const result = validate(message);
      if (!(result instanceof Promise)) return retry(message, result);
      return result.then((settled) => retry(message, settled));
    },
    // On first use: libraries take milliseconds to describe themselves, and only servers need it.
    get value() {
      return (described ??= describeSchema(name, schema, isResponse));
    },
  };
}

function isEmptyObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length === 0;
}

/** For programs. Of what the specification leaves open, zod and arktype have a `code`, valibot a `type`. */
function issueOf(issue: StandardIssue): Issue {
  const { code, type } = issue as { readonly code?: unknown; readonly type?: unknown };
  const path = (issue.path ?? []).map((part) => {
    const key = typeof part === "object" ? part.key : part;
    return typeof key === "symbol" ? String(key) : key;
  });
  const kind = typeof code === "string" ? code : typeof type === "string" ? type : "";
  return { path, code: kind, message: issue.message };
}

const maxIssues = 8;
const maxIssueCharacters = 200;

/** `name: expected string, received number; age: …`. Bounded: it travels in a header. */
function describeIssues(issues: readonly StandardIssue[]): string {
  const texts = issues.slice(0, maxIssues).map(describeIssue);
  if (issues.length > maxIssues) texts.push(`and ${issues.length - maxIssues} more`);
  return texts.join("; ");
}

function describeIssue({ message, path }: StandardIssue): string {
  const field = (path ?? []).reduce<string>((text, part) => {
    const key = typeof part === "object" ? part.key : part;
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? String(key) : `${text}.${String(key)}`;
  }, "");
  // The field is named first, whatever the library puts before its reason.
  let reason = message.replace(/^Invalid (?:input|type|key): /, "");
  if (field !== "" && reason.startsWith(`${field} `)) reason = reason.slice(field.length + 1);
  reason = reason.replace(/^Expected /, "expected ");
  const text = field === "" ? reason : `${field}: ${reason}`;
  return text.length > maxIssueCharacters ? `${text.slice(0, maxIssueCharacters).toWellFormed()}…` : text;
}

function describeSchema(name: string, schema: StandardSchema, isResponse: boolean): Value {
  const props = schema["~standard"] as { readonly jsonSchema?: StandardJsonSchemaConverter };
  const options = { target: "draft-2020-12" };
  // A sender passes a request's input; a receiver gets a response's output. Either may be beyond JSON Schema.
  const sides = isResponse ? (["output", "input"] as const) : (["input"] as const);
  for (const side of sides) {
    try {
      const json = props.jsonSchema?.[side](options);
      if (json !== undefined) return valueOfJsonSchema(name, json);
    } catch {
      continue; // The library says so by throwing; the registry then shows the name only.
    }
  }
  return { name, type: name, values: null };
}
