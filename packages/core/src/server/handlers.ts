/** The forms in which handlers are registered, turned into one list of methods. */
import type { HttpRoute, MessageType, MethodDefinition, MethodKind, ServiceDefinition } from "../definition.ts";
import { nearest } from "../nearest.ts";
import { type OptionNames, checkNumber, checkOptionNames } from "../option-check.ts";
import type { StringMap } from "../registry/registry.ts";
import { type AnyHandler, isGeneratorFunction, kindOf } from "./kinds.ts";
import type { HandleOptions } from "./server.ts";

/** One endpoint, as registered. */
export interface HandlerMethod {
  /** First part of the endpoint, e.g. `Greeter`. */
  readonly type: string;
  /** Second part, e.g. `Hello`. */
  readonly name: string;
  readonly kind: MethodKind;
  /** The user's function, bound to the object it came from. */
  readonly run: AnyHandler;
  /** Undefined without a definition. */
  readonly request: MessageType | undefined;
  readonly response: MessageType | undefined;
  readonly http: readonly HttpRoute[];
  readonly metadata: StringMap;
  readonly internal: boolean;
  /** Undefined: the server's. */
  readonly maxMessageBytes: number | undefined;
}

/** What one `handle()` call registers. */
export interface Registration {
  readonly type: string;
  readonly methods: readonly HandlerMethod[];
  /** True when the whole type is claimed, false for a single endpoint. */
  readonly whole: boolean;
}

/** Read the arguments of `handle()`. @throws {TypeError} saying what is wrong with them. */
export function readRegistration(target: unknown, second: unknown, third: HandleOptions | undefined): Registration {
  if (typeof target === "string") return byName(target, second, third ?? {});
  if (isDefinition(target)) return byDefinition(target, second, third ?? {});
  if (typeof target === "object" && target !== null) return byInstance(target, (second as HandleOptions) ?? {});
  throw new TypeError("handle: pass a service definition and its handlers, a name and a handler, or a class instance");
}

function isDefinition(value: unknown): value is ServiceDefinition {
  if (typeof value !== "object" || value === null) return false;
  const { service, type, methods } = value as Partial<ServiceDefinition>;
  return typeof service === "string" && typeof type === "string" && typeof methods === "object" && methods !== null;
}

function byDefinition(definition: ServiceDefinition, handlers: unknown, options: HandleOptions): Registration {
  const type = checkedName(definition.type, definition.type);
  if (typeof handlers !== "object" || handlers === null)
    throw new TypeError(`handle(${type}): pass an object with one function per method as second argument`);
  const methods = Object.entries(definition.methods).map(([key, method]) => {
    const handler = (handlers as Record<string, unknown>)[key];
    if (typeof handler !== "function") throw missing(type, key, definition, handlers);
    return definedMethod(type, method, handler as AnyHandler, handlers, options);
  });
  // A class may have methods of its own beside them; what is written for the call only has none.
  const prototype: unknown = Object.getPrototypeOf(handlers);
  const [extra] = prototype === Object.prototype || prototype === null ? others(definition, handlers) : [];
  if (extra !== undefined) throw noMethod(type, extra, definition);
  return registration(type, methods, true, options);
}

/** Functions that are no method of the definition. */
function others({ methods }: ServiceDefinition, handlers: object): string[] {
  return [...functionsOf(handlers).keys()].filter((key) => !Object.hasOwn(methods, key));
}

function missing(type: string, key: string, definition: ServiceDefinition, handlers: object): TypeError {
  const meant = nearest(key, others(definition, handlers));
  return new TypeError(
    `handle(${type}): the handler ${JSON.stringify(key)} is missing${meant === undefined ? "" : `; is ${JSON.stringify(meant)} meant to be it?`}`,
  );
}

function noMethod(type: string, key: string, { methods }: ServiceDefinition): TypeError {
  const known = Object.keys(methods);
  const meant = nearest(key, known);
  const rest =
    meant === undefined ? `, which has ${known.slice(0, 12).join(", ")}` : `; did you mean ${JSON.stringify(meant)}?`;
  return new TypeError(
    `handle(${type}): there is a handler ${JSON.stringify(key)}, but no such method of ${type}${rest}`,
  );
}

function definedMethod(
  type: string,
  method: MethodDefinition,
  handler: AnyHandler,
  owner: object,
  options: HandleOptions,
): HandlerMethod {
  const name = checkedName(method.name, `${type}.${method.name}`);
  if (isGeneratorFunction(handler) && (method.kind === "unary" || method.kind === "client"))
    throw new TypeError(`handle(${type}): ${name} answers with one message, but its handler is a generator function`);
  return {
    type,
    name,
    kind: method.kind,
    run: handler.bind<AnyHandler>(owner),
    request: method.request,
    response: method.response,
    http: registersRoutes(method) ? (method.http ?? []) : [],
    metadata: { ...method.metadata, ...options.metadata?.[name] },
    internal: options.internal ?? false,
    maxMessageBytes: options.maxMessageBytes,
  };
}

/** Metadata that is there and empty says that the registry is not to have the routes. */
function registersRoutes({ metadata }: MethodDefinition): boolean {
  return metadata === undefined || Object.keys(metadata).length > 0;
}

function byName(name: string, handler: unknown, options: HandleOptions): Registration {
  const parts = name.split(".");
  if (parts.length > 2)
    throw new TypeError(`handle(${JSON.stringify(name)}): a name is Type or Type.Method, with at most one dot`);
  const type = checkedName(capitalized(parts[0] ?? ""), name);
  if (parts[1] !== undefined) {
    if (typeof handler !== "function")
      throw new TypeError(`handle(${JSON.stringify(name)}): pass a function for an endpoint, not ${typeof handler}`);
    const method = plainMethod(type, parts[1], handler as AnyHandler, undefined, options);
    return registration(type, [method], false, options);
  }
  if (typeof handler !== "object" || handler === null)
    throw new TypeError(
      `handle(${JSON.stringify(name)}): pass an object of functions; for one function name the endpoint, as in "${type}.Method"`,
    );
  return registration(type, objectMethods(type, handler, options), true, options);
}

function byInstance(instance: object, options: HandleOptions): Registration {
  const constructor: unknown = instance.constructor;
  const name = typeof constructor === "function" && constructor !== Object ? constructor.name : "";
  if (name === "")
    throw new TypeError('handle: the object has no class to take the name from; write handle("Name", object)');
  const type = checkedName(capitalized(name), name);
  return registration(type, objectMethods(type, instance, options), true, options);
}

function objectMethods(type: string, object: object, options: HandleOptions): HandlerMethod[] {
  return [...functionsOf(object)].map(([key, handler]) => plainMethod(type, key, handler, object, options));
}

/** Functions of an object and of its classes, but not getters, the constructor, and names that start with `_` or `#`. */
export function functionsOf(object: object): Map<string, AnyHandler> {
  const found = new Map<string, AnyHandler>();
  for (
    let holder: object | null = object;
    holder !== null && holder !== Object.prototype;
    holder = Object.getPrototypeOf(holder) as object | null
  ) {
    for (const [key, { value }] of Object.entries(Object.getOwnPropertyDescriptors(holder)))
      if (typeof value === "function" && key !== "constructor" && !/^[_#]/.test(key) && !found.has(key))
        found.set(key, value as AnyHandler);
  }
  return found;
}

function plainMethod(
  type: string,
  key: string,
  handler: AnyHandler,
  owner: object | undefined,
  options: HandleOptions,
): HandlerMethod {
  const name = checkedName(capitalized(key), `${type}.${key}`);
  return {
    type,
    name,
    kind: kindOf(handler),
    run: owner === undefined ? handler : handler.bind<AnyHandler>(owner),
    request: undefined,
    response: undefined,
    http: [],
    metadata: { ...options.metadata?.[name] },
    internal: options.internal ?? false,
    maxMessageBytes: options.maxMessageBytes,
  };
}

function registration(
  type: string,
  methods: readonly HandlerMethod[],
  whole: boolean,
  options: HandleOptions,
): Registration {
  if (methods.length === 0) throw new TypeError(`handle(${type}): there is no method to call`);
  checkOptions(`handle(${type})`, options);
  const names = new Set<string>();
  for (const { name } of methods) {
    if (names.has(name)) throw new TypeError(`handle(${type}): two methods are called ${name} on the wire`);
    names.add(name);
  }
  for (const name of Object.keys(options.metadata ?? {}))
    if (!names.has(name))
      throw new TypeError(`handle(${type}): metadata is given for ${JSON.stringify(name)}, which is no method of it`);
  return { type, methods, whole };
}

const optionNames: OptionNames<HandleOptions> = { internal: true, maxMessageBytes: true, metadata: true };

function checkOptions(what: string, options: HandleOptions): void {
  checkOptionNames(what, options, optionNames);
  checkNumber(what, "maxMessageBytes", options.maxMessageBytes, { least: 1, whole: true });
}

/** @internal */
export function capitalized(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

function checkedName(part: string, whole: string): string {
  if (!/^[\p{L}_][\p{L}\p{N}_]*$/u.test(part))
    throw new TypeError(
      `handle: ${JSON.stringify(whole)} cannot be an endpoint's name; letters, digits and _ are allowed, as in Greeter.Hello`,
    );
  return part;
}
