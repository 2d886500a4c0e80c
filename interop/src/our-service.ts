/** Our side: a service that serves what the Go peers serve, under the same names. */
import {
  type CallOptions,
  type Context,
  type ServiceOptions,
  bidiHandler,
  consoleLogger,
  createService,
  errors,
} from "@micro/core";
import type {
  CountRequest,
  EchoMessage,
  FailRequest,
  ForwardRequest,
  SleepReport,
  SleepRequest,
} from "../gen/greeter.ts";
import { Everything } from "../gen/types.ts";
import { registerTypesHandler } from "../gen/types.micro.ts";
import { Greeter } from "./definition.ts";

/** What is told of handlers that may be cancelled, by the key their caller chose. As `go/peer/state.go`. */
export class Runs {
  readonly #runs = new Map<string, SleepReport>();

  of(key: string): SleepReport {
    return this.#runs.get(key) ?? { runs: 0, ends: 0, ran: 0, cancelled: false, error: "", left: 0 };
  }

  /** Note a handler's start; the returned function notes its end. */
  begin(key: string, context: Context): (error?: unknown) => void {
    const started = performance.now();
    const left = context.remainingMs === undefined ? -1 : Math.round(context.remainingMs);
    this.#runs.set(key, { ...this.of(key), runs: this.of(key).runs + 1 });
    return (error) => {
      const { reason } = context.cancellation;
      this.#runs.set(key, {
        runs: this.of(key).runs,
        ends: this.of(key).ends + 1,
        ran: Math.round(performance.now() - started),
        cancelled: reason !== undefined,
        error: error === undefined ? (reason?.message ?? "") : text(error),
        left,
      });
    };
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : JSON.stringify(error);
}

/** Wait, or less if the call is cancelled; rejects with the reason then. */
function sleep(ms: number, context: Context): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const remove = context.cancellation.onCancel(reject);
  return promise.finally(() => {
    clearTimeout(timer);
    remove();
  });
}

async function* chat(
  runs: Runs,
  requests: AsyncIterable<Partial<EchoMessage>>,
  context: Context,
): AsyncGenerator<Partial<EchoMessage>> {
  const end = runs.begin(context.metadata.get("Key") ?? "", context);
  let failure: unknown = "left by the transport";
  try {
    for await (const message of requests) {
      if (message.text === "fail") throw errors.newError("greeter", "asked to fail", 409);
      if (message.text === "bye") break;
      yield message;
    }
    failure = undefined;
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    end(failure);
  }
}

function* count({ to = 0 }: Partial<CountRequest>): Generator<{ n: number }> {
  for (let n = 1; n <= to; n++) yield { n };
}

function fail({ code = 0, detail = "", id = "", plain = false }: Partial<FailRequest>): never {
  throw plain ? new Error(detail) : errors.newError(id, detail, code);
}

function addressOf({ address }: Partial<ForwardRequest>): CallOptions {
  return address === undefined || address === "" ? {} : { address };
}

export type OurService = ReturnType<typeof createService>;

/** Log lines of our side, for reports of failures; only warnings and worse. */
export const ourLog: string[] = [];

/** A service that is a client only until handlers are added. */
export function ourProgram(options: ServiceOptions): OurService {
  return createService({
    address: "127.0.0.1:0",
    handleSignals: false,
    args: [],
    env: {},
    logger: consoleLogger({ level: "warn", write: (line) => void ourLog.push(line) }),
    ...options,
  });
}

/** Our service, with the handlers of both `Greeter` (protobuf messages) and `Plain` (JSON without a definition). */
export function ourGreeter(options: ServiceOptions, runs = new Runs()): { service: OurService; runs: Runs } {
  const service = ourProgram(options);
  const slept = async ({ key = "", ms = 0 }: Partial<SleepRequest>, context: Context): Promise<SleepReport> => {
    const end = runs.begin(key, context);
    try {
      await sleep(ms, context);
      end();
    } catch (error) {
      end(error);
      throw error;
    }
    return runs.of(key);
  };
  const handlers = {
    hello: ({ name = "" }: { name?: string }) => ({ msg: `Hello ${name}` }),
    fail(request: Partial<FailRequest>, context: Context) {
      runs.begin(context.metadata.get("Key") ?? "", context);
      return fail(request);
    },
    sleep: slept,
    slept: ({ key = "" }: Partial<SleepRequest>) => runs.of(key),
    meta: (_: unknown, context: Context) => ({ values: Object.fromEntries(context.metadata) }),
    nothing: () => ({}),
    count,
  };
  service.handle(Greeter, {
    ...handlers,
    echo: (message) => message,
    // A call made in a handler inherits the metadata; nothing is passed on by hand.
    forward: (request) => service.client(Greeter, { service: request.service }).meta({}, addressOf(request)),
    chat: (requests, context) => chat(runs, requests, context),
  });
  service.handle("Plain", {
    ...handlers,
    echo: (message: unknown) => message,
    unwritable(_: unknown, context: Context) {
      runs.begin(context.metadata.get("Key") ?? "", context);
      const self: Record<string, unknown> = {};
      return Object.assign(self, { self });
    },
    forward: (request: ForwardRequest) => service.call(request.service, "Plain.Meta", {}, addressOf(request)),
    chat: bidiHandler((requests, context) => chat(runs, requests, context)),
  });
  registerTypesHandler(service, {
    echo: (message) => message,
    describe: (message) => ({ text: JSON.stringify(Everything.toJSON(message)) }),
    nothing: () => ({}),
  });
  return { service, runs };
}
