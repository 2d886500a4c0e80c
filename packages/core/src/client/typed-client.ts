/** The typed client of a definition: one function per method, everything about it looked up once. */
import type { MethodDefinitions, ServiceDefinition } from "../definition.ts";
import type { Target } from "./call-context.ts";
import { readMetadata } from "../metadata.ts";
import { optionKinds, wrongArgument } from "../option-kinds.ts";
import { checkCallOptions, type CallDefaults } from "./call-options.ts";
import type { CallOptions, ServiceClient } from "./client.ts";

/** How a client carries out calls; options are those of the one call. */
export interface Callers {
  unary(target: Target, request: unknown, options: CallOptions | undefined): Promise<unknown>;
  /** Server and bidirectional streams. */
  answers(target: Target, request: unknown, options: CallOptions | undefined): AsyncIterableIterator<unknown>;
  clientStream(target: Target, requests: unknown, options: CallOptions | undefined): Promise<unknown>;
}

/** Arrays may be messages; nothing that is iterated by waiting is one. */
function isStream(request: unknown): boolean {
  return typeof request === "object" && request !== null && Symbol.asyncIterator in request;
}

/** @param what who is given it: begins the error's text. @throws {TypeError} for what is no service definition. */
export function checkDefinition(what: string, definition: unknown): asserts definition is ServiceDefinition {
  if (!optionKinds.definition.is(definition)) throw wrongArgument(what, "first", definition, optionKinds.definition);
}

/** @throws {TypeError} for options that do not exist or are of the wrong kind. */
export function checkTypedClientOptions(
  { type }: ServiceDefinition,
  options: CallOptions & { service?: string | undefined },
): void {
  checkCallOptions(`client(${type})`, options, { service: optionKinds.text });
  // Its names and values, too, before it is used.
  if (options.metadata !== undefined) readMetadata(options.metadata);
}

/** @throws {TypeError} for a definition that is none. */
export function typedClient<Methods extends MethodDefinitions>(
  callers: Callers,
  definition: ServiceDefinition<Methods>,
  service: string,
  defaults: CallDefaults,
): ServiceClient<Methods> {
  // Without a prototype: methods may have any name.
  const client = Object.create(null) as Record<string, unknown>;
  for (const [name, method] of Object.entries(definition.methods)) {
    const target: Target = {
      service,
      endpoint: `${definition.type}.${method.name}`,
      kind: method.kind,
      defaults,
      request: method.request,
      response: method.response,
      method,
    };
    if (method.kind === "unary")
      client[name] = (request: unknown, options?: CallOptions) =>
        isStream(request)
          ? Promise.reject(
              new TypeError(`${target.endpoint} is a unary call: it takes one message, not a stream of them`),
            )
          : callers.unary(target, request, options);
    else if (method.kind === "client")
      client[name] = (requests: unknown, options?: CallOptions) => callers.clientStream(target, requests, options);
    else
      client[name] = (request: unknown, options?: CallOptions) => {
        if (method.kind === "server" && isStream(request))
          throw new TypeError(`${target.endpoint} is a server stream: it takes one message, not a stream of them`);
        return callers.answers(target, request, options);
      };
  }
  return Object.freeze(client) as ServiceClient<Methods>;
}
