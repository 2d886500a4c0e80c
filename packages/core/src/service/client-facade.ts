/** The client as a service shows it: valid before `init()`, which may exchange the one behind it. */
import type { CallOptions, Client, ServiceClient } from "../client/client.ts";
import { checkDefinition, checkTypedClientOptions } from "../client/typed-client.ts";
import type { MethodDefinitions, ServiceDefinition } from "../definition.ts";

/**
 * The service's client, and a function that makes typed clients: `service.client(Greeter)` is
 * `service.client.client(Greeter)`.
 */
export interface ServiceClientPiece extends Client {
  <Methods extends MethodDefinitions>(
    definition: ServiceDefinition<Methods>,
    options?: CallOptions & { service?: string | undefined },
  ): ServiceClient<Methods>;
  call: Client["call"];
  readonly name: string;
}

type Call = (request: unknown, options?: CallOptions) => unknown;

/** Stands in for a client that cannot be made, so that calls reject instead of throwing. */
export function failingClient(error: unknown): Client {
  const reject = async (): Promise<never> => {
    throw error;
  };
  const end = () => failingIterator(error);
  return {
    name: "",
    call: reject,
    stream: reject,
    publish: reject,
    client<Methods extends MethodDefinitions>({ methods }: ServiceDefinition<Methods>) {
      const members = Object.entries(methods).map(([name, { kind }]) => {
        return [name, kind === "unary" || kind === "client" ? reject : end] as const;
      });
      return Object.fromEntries(members) as unknown as ServiceClient<Methods>;
    },
    async [Symbol.asyncDispose]() {},
  };
}

// oxlint-disable-next-line require-yield
async function* failingIterator(error: unknown): AsyncGenerator<never> {
  throw error;
}

/** @param close what disposing it does: the client belongs to the service. */
export function clientFacade(current: () => Client, close: () => Promise<void>): ServiceClientPiece {
  const client = (definition: ServiceDefinition, options?: CallOptions & { service?: string | undefined }) => {
    // Here, since it is made only when it is called first.
    checkDefinition("client", definition);
    if (options !== undefined) checkTypedClientOptions(definition, options);
    return typedClient(current, definition, options);
  };
  const members: { readonly [Name in keyof Client]: PropertyDescriptor } = {
    name: { get: () => current().name },
    call: { value: ((...args) => current().call(...args)) as Client["call"] },
    stream: { value: ((...args) => current().stream(...args)) as Client["stream"] },
    publish: { value: ((...args: Parameters<Client["publish"]>) => current().publish(...args)) as Client["publish"] },
    client: { value: client },
    [Symbol.asyncDispose]: { value: close },
  };
  // A function of its own: it gets a `name` and a `call` that are not those of functions.
  return Object.defineProperties(client.bind(undefined), members) as unknown as ServiceClientPiece;
}

function typedClient(
  current: () => Client,
  definition: ServiceDefinition,
  options: CallOptions | undefined,
): Readonly<Record<string, Call>> {
  let madeBy: Client | undefined;
  let made: Readonly<Record<string, Call>> = {};
  const method = (name: string): Call => {
    return (request, callOptions) => {
      const client = current();
      if (client !== madeBy) {
        made = client.client(definition, options) as Readonly<Record<string, Call>>;
        madeBy = client;
      }
      return made[name]!(request, callOptions);
    };
  };
  return Object.fromEntries(Object.keys(definition.methods).map((name) => [name, method(name)]));
}
