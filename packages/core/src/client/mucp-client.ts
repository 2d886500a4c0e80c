/** The client: finds a node of the called service and speaks the wire it asks for. Go's `client/rpc_client.go`. */
import { codecTable } from "../codec/table.ts";
import type { MethodDefinitions, ServiceDefinition } from "../definition.ts";
import { MicroError } from "../errors.ts";
import { Metadata } from "../metadata.ts";
import type { OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { TopicDefinition } from "../topic.ts";
import { wrap, type Next } from "../wrapper.ts";
import { Attempt, Call, expectContext, type Target } from "./call-context.ts";
import { checkCallOptions, initialDefaults, withOptions, type CallDefaults } from "./call-options.ts";
import { Channel, ChannelStream } from "./channel.ts";
import type {
  AttemptContext,
  CallContext,
  CallOptions,
  Client,
  ClientOptions,
  ClientStream,
  ServiceClient,
} from "./client.ts";
import type { ClientCore } from "./core.ts";
import { clientId } from "./deadline.ts";
import { LazyIterator } from "./lazy-iterator.ts";
import { fromHeader } from "./metadata.ts";
import type { EventPublisher, EventPublishOptions } from "./publish.ts";
import { eventPublisher } from "./publisher.ts";
import { asAsyncIterable, checkStreamable } from "./pump.ts";
import { RetryBudget } from "./retry-budget.ts";
import { openStream, startStream } from "./stream-call.ts";
import { checkDefinition, checkTypedClientOptions, typedClient, type Callers } from "./typed-client.ts";
import { startUnary } from "./unary.ts";
import { Wires } from "./wire.ts";

/**
 * Make a client.
 *
 * A call is tried on another node when it provably did not run: once by default, and beyond that on every node not yet
 * tried as long as nodes refuse connections or are draining. All attempts share one deadline, which is never later
 * than that of the incoming call, and the incoming call's cancellation ends them.
 *
 * Wrappers of streams see async iterables. A client wrapper gets one from `next` at once, a call wrapper a promise of
 * one; `await next(request, context)` serves both.
 *
 * Disposing cancels running streams and refuses further calls with `closed`; transport and selector stay open, they
 * are their owner's.
 * @throws {TypeError} for options that do not exist or are of the wrong kind.
 */
export function mucpClient(options: ClientOptions): Client {
  return new MucpClient(options);
}

/** What a client takes beside the defaults of its calls. */
const ownOptionNames: OptionNames<Omit<ClientOptions, keyof CallOptions>> = {
  transport: optionKinds.transport,
  selector: optionKinds.selector,
  logger: optionKinds.logger,
  broker: optionKinds.brokerOrFunction,
  codecs: optionKinds.codecs,
  wrapClient: optionKinds.functions,
  wrapCall: optionKinds.functions,
  wrapPublish: optionKinds.functions,
  retryBudget: true,
  from: true,
  protocols: optionKinds.function,
};

class MucpClient implements Client, Callers {
  readonly name = "mucp";
  readonly #core: ClientCore;
  readonly #defaults: CallDefaults;
  readonly #typed = new WeakMap<object, unknown>();
  readonly #publisher: EventPublisher | undefined;
  #closed = false;

  constructor(options: ClientOptions) {
    const { transport, selector, logger, wrapClient = [], wrapCall = [] } = options;
    if (transport === undefined || selector === undefined || logger === undefined)
      throw new TypeError("mucpClient needs `transport`, `selector` and `logger`");
    checkCallOptions("mucpClient", options, ownOptionNames);
    const constant =
      options.from === undefined || options.from === "" ? undefined : new Metadata({ [fromHeader]: options.from });
    const core: ClientCore = {
      transport,
      selector,
      logger,
      wires: new Wires(codecTable(options.codecs)),
      budget: new RetryBudget(options.retryBudget),
      constant,
      aroundCall:
        wrapClient.length === 0
          ? undefined
          : wrap<CallContext>(wrapClient, (request, context) => innermost(core, expectContext(context, Call), request)),
      aroundAttempt:
        wrapCall.length === 0
          ? undefined
          : wrap<AttemptContext>(wrapCall, (request, context) => {
              const attempt = expectContext(context, Attempt);
              return attempt.carrier.carry(request, attempt);
            }),
      protocols: options.protocols,
      streams: new Set(),
      nextAddress: 0,
    };
    this.#core = core;
    this.#defaults = withOptions(initialDefaults, options);
    const { broker, codecs, contentType, wrapPublish } = options;
    if (broker !== undefined)
      this.#publisher = eventPublisher({ broker, codecs, contentType, wrapPublish, metadata: constant });
  }

  call<Res = unknown>(service: string, endpoint: string, request: unknown, options?: CallOptions): Promise<Res> {
    try {
      checkName("call", service, endpoint);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.unary(this.#byName(service, endpoint, "unary"), request, options) as Promise<Res>;
  }

  async stream<Req = unknown, Res = unknown>(
    service: string,
    endpoint: string,
    options?: CallOptions,
  ): Promise<ClientStream<Req, Res>> {
    checkName("stream", service, endpoint);
    this.#checkOpen();
    const call = this.#start(this.#byName(service, endpoint, "bidi"), options);
    const { aroundCall } = this.#core;
    if (aroundCall === undefined) return (await openStream(this.#core, call)) as ClientStream<Req, Res>;
    return (await openWrapped(aroundCall, call)) as ClientStream<Req, Res>;
  }

  client<Methods extends MethodDefinitions>(
    definition: ServiceDefinition<Methods>,
    options?: CallOptions & { service?: string | undefined },
  ): ServiceClient<Methods> {
    checkDefinition("client", definition);
    if (options !== undefined) checkTypedClientOptions(definition, options);
    else {
      const known = this.#typed.get(definition) as ServiceClient<Methods> | undefined;
      if (known !== undefined) return known;
    }
    const service = options?.service ?? definition.service;
    if (service === "") throw new TypeError("client: the service name is empty");
    const defaults = withOptions({ ...this.#defaults, contentType: definition.contentType }, options);
    const client = typedClient(this, definition, service, defaults);
    if (options === undefined) this.#typed.set(definition, client);
    return client;
  }

  async publish(topic: string | TopicDefinition, message: unknown, options?: EventPublishOptions): Promise<void> {
    this.#checkOpen();
    if (this.#publisher === undefined)
      throw new TypeError("publish: the client has no broker; give it one as `broker`");
    await this.#publisher.publish(topic as string, message, options);
  }

  unary(target: Target, request: unknown, options: CallOptions | undefined): Promise<unknown> {
    const { aroundCall } = this.#core;
    try {
      this.#checkOpen();
      const call = this.#start(target, options);
      if (aroundCall === undefined) return startUnary(this.#core, call, request);
      return Promise.resolve(aroundCall(request, call) as unknown);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  answers(target: Target, request: unknown, options: CallOptions | undefined): AsyncIterableIterator<unknown> {
    if (target.kind === "bidi") checkStreamable(request, target.endpoint);
    const call = this.#start(target, options);
    const { aroundCall } = this.#core;
    return new LazyIterator(call, () => {
      this.#checkOpen();
      if (aroundCall === undefined) return startStream(this.#core, call, request);
      return aroundCall(target.kind === "bidi" ? asAsyncIterable(request as Iterable<unknown>) : request, call);
    });
  }

  async clientStream(target: Target, requests: unknown, options: CallOptions | undefined): Promise<unknown> {
    checkStreamable(requests, target.endpoint);
    this.#checkOpen();
    const call = this.#start(target, options);
    const { aroundCall } = this.#core;
    if (aroundCall === undefined) return await startStream(this.#core, call, requests);
    return await (aroundCall(asAsyncIterable(requests), call) as unknown);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const call of this.#core.streams) call.abort(closedError());
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError();
  }

  #start(target: Target, options: CallOptions | undefined): Call {
    const now = performance.now();
    this.#core.budget.call(now);
    return new Call(target, options, now, this.#core.constant);
  }

  #byName(service: string, endpoint: string, kind: "unary" | "bidi"): Target {
    return {
      service,
      endpoint,
      kind,
      defaults: this.#defaults,
      request: undefined,
      response: undefined,
      method: undefined,
    };
  }
}

/** What a client wrapper's last `next` does. */
function innermost(core: ClientCore, call: Call, request: unknown): unknown {
  if (call.kind === "unary") return startUnary(core, call, request);
  if (call.kind === "client") return startStream(core, call, request);
  const answers = new LazyIterator(call, () => startStream(core, call, request));
  // A caller by name waits for the stream to be open, whether the wrappers read from it already or not.
  call.opening?.(answers);
  return answers;
}

/** Open a stream by name through the client wrappers. */
async function openWrapped(aroundCall: Next<CallContext>, call: Call): Promise<ClientStream> {
  const channel = new Channel();
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  opened.catch(() => {}); // A wrapper may still be busy when the stream cannot be opened.
  call.opening = (answers) => void answers.open().then(() => resolve(), reject);
  const answers: unknown = await (aroundCall(channel, call) as unknown);
  if (typeof (answers as Partial<AsyncIterable<unknown>> | undefined)?.[Symbol.asyncIterator] !== "function") {
    const error = new TypeError("a wrapper of a stream must return an async iterable");
    call.abort(error);
    throw error;
  }
  const stream = new ChannelStream(channel, answers as AsyncIterable<unknown>, call);
  try {
    await Promise.race([opened, stream.begin()]);
  } catch (error) {
    stream.cancel(error);
    throw error;
  }
  return stream;
}

function checkName(method: string, service: string, endpoint: string): void {
  if (typeof service !== "string" || service === "")
    throw new TypeError(`client.${method}: the first argument is the service's name, a string that is not empty`);
  if (typeof endpoint !== "string" || endpoint === "")
    throw new TypeError(`client.${method}: the second argument is the endpoint, e.g. "Greeter.Hello"`);
}

function closedError(): MicroError {
  return new MicroError("the client is closed", { id: clientId, code: "closed" });
}
