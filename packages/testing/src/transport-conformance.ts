/** The suite every transport has to pass: what client and server rely on, whatever the wire. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import {
  MicroError,
  type ErrorCode,
  Metadata,
  checkOptionNames,
  type ClientExchange,
  type ExchangeHandler,
  type ExchangeOptions,
  type ExchangeRequest,
  type Listener,
  type ServerExchange,
  type ServerStream,
  type Transport,
} from "@micro/core";
import { Keepsakes, watchEntries } from "./kept.ts";
import { defineSuite, type Skips, type SuiteCase, type TestRunner } from "./runner.ts";

/** What a suite is handed for each test. Disposed after it. */
export interface TransportFixture extends AsyncDisposable {
  /** Listens, and calls unless `connect` is given. */
  readonly transport: Transport;
  /** A transport as a second process would have it; the suite disposes it. Default: `transport` does both. */
  connect?(): Transport;
  /** Where to listen. Default: `127.0.0.1:0`. */
  readonly address?: string | undefined;
  /** An address nobody listens on. Default: `127.0.0.1:1`. */
  readonly unreachable?: string | undefined;
}

/** Declare the suite for `create`'s transport. `skip` maps test names to the reason why they do not apply. */
export function transportConformance(
  runner: TestRunner,
  create: () => Promise<TransportFixture>,
  options: { readonly skip?: Skips | undefined } = {},
): void {
  checkOptionNames("transportConformance", options, { skip: true });
  defineSuite(runner, "transport conformance", create, cases, options.skip);
}

const noBytes = new Uint8Array(0);

function bytes(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

function text(body: Uint8Array): string {
  return new TextDecoder().decode(body);
}

function request(endpoint: string, body: Uint8Array = noBytes, metadata?: Metadata): ExchangeRequest {
  return { service: "test", endpoint, contentType: "application/json", metadata, body };
}

function within(ms: number): ExchangeOptions {
  return { deadline: performance.now() + ms };
}

/** Longer than anything here takes, so that a test that hangs ends by itself. */
const patient = (): ExchangeOptions => within(10_000);

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < end, `waited 10 s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The promise rejects with a `MicroError` of one of `codes`; it is returned. */
async function fails(promise: Promise<unknown>, ...codes: readonly ErrorCode[]): Promise<MicroError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(MicroError.is(error), `not a MicroError: ${String(error)}`);
    assert.ok(codes.includes(error.code), `code ${error.code} (${error.message}), expected ${codes.join(" or ")}`);
    return error;
  }
  return assert.fail(`it did not fail with ${codes.join(" or ")}`);
}

/** Server and client of one test. */
class Bench implements AsyncDisposable {
  readonly listener: Listener;
  readonly client: Transport;
  readonly #ownsClient: boolean;

  private constructor(listener: Listener, client: Transport, ownsClient: boolean) {
    this.listener = listener;
    this.client = client;
    this.#ownsClient = ownsClient;
  }

  static async start(fixture: TransportFixture, handler: ExchangeHandler, maxMessageBytes?: number): Promise<Bench> {
    const address = fixture.address ?? "127.0.0.1:0";
    const listener = await fixture.transport.listen(handler, { address, maxMessageBytes });
    return new Bench(listener, fixture.connect?.() ?? fixture.transport, fixture.connect !== undefined);
  }

  get address(): string {
    return this.listener.address;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ownsClient) await this.client[Symbol.asyncDispose]();
    await this.listener[Symbol.asyncDispose]();
  }
}

/** Run a stream handler whose failures belong to the test, not to the process. */
function streaming(handle: (stream: ServerStream, exchange: ServerExchange) => Promise<void>): {
  readonly handler: ExchangeHandler;
  readonly failures: unknown[];
} {
  const failures: unknown[] = [];
  const handler: ExchangeHandler = (exchange) => {
    handle(exchange.stream(), exchange).catch((error: unknown) => failures.push(error));
  };
  return { handler, failures };
}

async function echoAll(stream: ServerStream): Promise<void> {
  for (;;) {
    const body = await stream.receive();
    if (body === undefined) break;
    await stream.send({ contentType: "application/json", body });
  }
  stream.end();
}

async function readAll(stream: ClientExchange): Promise<string[]> {
  const all: string[] = [];
  for (;;) {
    const message = await stream.receive();
    if (message === undefined) return all;
    assert.equal(message.error, undefined);
    all.push(text(message.body));
  }
}

/** Deadlines so far that a timer left behind does not end by itself while it is looked for. */
const lastingMs = 60_000;

/** Every way in which a call or a stream can end, to be taken again and again on transports that live on. */
class Ends {
  readonly #fixture: TransportFixture;
  readonly #bench: Bench;
  readonly #kept: Keepsakes;
  readonly #running: ServerExchange[];

  /** @param running gets the exchanges of `T.Silent` and `T.Stays` in turn, which answer nothing by themselves. */
  constructor(fixture: TransportFixture, bench: Bench, kept: Keepsakes, running: ServerExchange[]) {
    this.#fixture = fixture;
    this.#bench = bench;
    this.#kept = kept;
    this.#running = running;
  }

  /** Handles what {@link all} sends. */
  static handler(kept: Keepsakes, running: ServerExchange[]): ExchangeHandler {
    const streams: Readonly<Record<string, (stream: ServerStream) => Promise<void>>> = {
      "T.Echo": echoAll,
      "T.Stays": async (stream) => {
        await stream.send({ body: bytes("first") });
        await stream.receive();
      },
      "T.Breaks": async (stream) => {
        await stream.send({ body: bytes("first") });
        stream.end({ error: "no", body: noBytes });
      },
      "T.Leaves": async (stream) => {
        await stream.receive();
        stream.end();
      },
    };
    return (exchange) => {
      kept.add(exchange);
      // An empty one may be the same for all.
      if (exchange.body.length > 0) kept.add(exchange.body);
      // Asked for, it may have a timer for the deadline.
      kept.add(exchange.cancellation.signal);
      kept.add(exchange.header);
      const stream = streams[exchange.endpoint];
      if (exchange.endpoint === "T.Silent" || exchange.endpoint === "T.Stays") running.push(exchange);
      if (stream !== undefined) stream(kept.add(exchange.stream())).catch(() => {});
      else if (exchange.endpoint === "T.Error") exchange.reply({ error: "no", body: noBytes });
      else if (exchange.endpoint === "T.Refused") exchange.reply({ error: "no", notRun: true, body: noBytes });
      else if (exchange.endpoint === "T.Throws") throw new Error("bug");
      else if (exchange.endpoint !== "T.Silent") exchange.reply({ body: exchange.body });
    };
  }

  readonly all: Readonly<Record<string, () => Promise<unknown>>> = {
    "a reply": () => this.#call("T.M"),
    "a large reply": () => this.#call("T.M", {}, new Uint8Array(100_000)),
    "a reply on a connection of its own": () => this.#call("T.M", { freshConnection: true }),
    "an error": () => this.#call("T.Error"),
    "a refusal": () => this.#call("T.Refused"),
    "a handler that throws": () => this.#call("T.Throws"),
    "a request that is too large": () => fails(this.#call("T.M", {}, new Uint8Array(200_001)), "too_large"),
    "an address where nobody listens": () =>
      fails(this.#call("T.M", {}, noBytes, this.#fixture.unreachable ?? "127.0.0.1:1"), "unavailable"),
    "a call cancelled before it begins": async () => {
      const controller = this.#controller();
      controller.abort();
      await fails(this.#call("T.M", { signal: controller.signal }), "aborted");
    },
    "a call cancelled while it is dialled": async () => {
      const controller = this.#controller();
      const failed = fails(this.#call("T.M", { signal: controller.signal, freshConnection: true }), "aborted");
      controller.abort();
      await failed;
    },
    "a call cancelled while it runs": async () => {
      const controller = this.#controller();
      const failed = fails(this.#call("T.Silent", { signal: controller.signal }), "aborted");
      await this.#runs();
      controller.abort();
      await failed;
      this.#answerLate();
    },
    "a call whose deadline passes": async () => {
      await fails(this.#call("T.Silent", within(30)), "timeout");
      this.#answerLate();
    },
    "a stream that is read to its end": async () => {
      const stream = await this.#open("T.Echo");
      await stream.send(bytes("a"));
      stream.closeSend();
      assert.deepEqual(await readAll(stream), ["a"]);
    },
    "a stream that ends with an error": async () => {
      const stream = await this.#open("T.Breaks");
      await stream.receive();
      assert.equal((await stream.receive())?.error, "no");
    },
    "a stream that ends with an error nobody reads": async () => {
      const stream = await this.#open("T.Breaks");
      await stream.receive();
      stream.cancel();
    },
    "a stream that ends while its caller sends": async () => {
      const stream = await this.#open("T.Leaves");
      await stream.send(bytes("a"));
      assert.deepEqual(await readAll(stream), []);
      await Promise.resolve(stream.send(bytes("late"))).catch(() => {});
    },
    "a stream that is left early": async () => {
      const stream = await this.#open("T.Stays");
      await stream.receive();
      stream.cancel();
      await this.#cancelled();
    },
    "a stream that is left unread": async () => {
      const stream = await this.#open("T.Stays");
      await this.#runs();
      stream.cancel();
      await this.#cancelled();
    },
    "a stream whose signal is aborted": async () => {
      const controller = this.#controller();
      const stream = await this.#open("T.Stays", { signal: controller.signal });
      await stream.receive();
      const failed = fails(stream.receive(), "aborted");
      controller.abort();
      await failed;
      await this.#cancelled();
    },
    "a stream whose deadline passes": async () => {
      // On a busy machine it may pass before the stream is open.
      const reading = async (): Promise<void> => {
        const stream = await this.#open("T.Stays", within(100));
        while ((await stream.receive()) !== undefined);
      };
      await fails(reading(), "timeout");
      this.#running.length = 0;
    },
    "a caller who goes away": async () => {
      const client = this.#fixture.connect?.();
      if (client === undefined) return;
      const options = { ...within(lastingMs), signal: this.#controller().signal };
      const call = client.call(this.#bench.address, request("T.Silent"), options).catch(() => {});
      const stream = await client.open(this.#bench.address, request("T.Stays"), options);
      await until(() => this.#running.length === 2, "both run");
      await client[Symbol.asyncDispose]();
      await call;
      this.#kept.add(stream).cancel();
      await this.#cancelled();
    },
    "a listener that goes away": async () => {
      const running: ServerExchange[] = [];
      const address = this.#fixture.address === undefined ? "127.0.0.1:0" : `${this.#fixture.address}-other`;
      const listener = await this.#fixture.transport.listen(Ends.handler(this.#kept, running), { address });
      const call = this.#call("T.Silent", {}, noBytes, listener.address).catch(() => {});
      const stream = await this.#open("T.Stays", {}, listener.address);
      await until(() => running.length === 2, "both run");
      await listener[Symbol.asyncDispose]();
      await call;
      while ((await stream.receive().catch(() => undefined)) !== undefined);
      stream.cancel();
    },
  };

  #controller(): AbortController {
    const controller = new AbortController();
    this.#kept.add(controller.signal);
    return controller;
  }

  async #call(endpoint: string, options: ExchangeOptions = {}, body: Uint8Array = bytes("{}"), address?: string) {
    // Not added, nor shared: what was sent last to an address may be remembered with it, as that is sent again.
    const metadata = new Metadata({ "X-Some": "thing" });
    const asked = this.#kept.add(request(endpoint, this.#kept.add(body.slice()), metadata));
    const reply = await this.#bench.client.call(address ?? this.#bench.address, asked, {
      ...within(lastingMs),
      ...options,
    });
    this.#kept.add(reply);
    this.#kept.add(reply.header);
  }

  async #open(endpoint: string, options: ExchangeOptions = {}, address?: string): Promise<ClientExchange> {
    const asked = this.#kept.add(request(endpoint));
    return this.#kept.add(
      await this.#bench.client.open(address ?? this.#bench.address, asked, { ...within(lastingMs), ...options }),
    );
  }

  #runs(): Promise<void> {
    return until(() => this.#running.length > 0, "it runs");
  }

  async #cancelled(): Promise<void> {
    const reason = () => this.#running.every(({ cancellation }) => cancellation.reason !== undefined);
    await until(reason, "the handler is cancelled");
    this.#running.length = 0;
  }

  /** A handler that notices nothing ends all the same; on a busy machine it may not have begun. */
  #answerLate(): void {
    for (const exchange of this.#running.splice(0)) exchange.reply({ body: noBytes });
  }
}

const cases: Readonly<Record<string, SuiteCase<TransportFixture>>> = {
  "a call reaches the handler with all it carries and its reply comes back": async (fixture) => {
    let seen: ServerExchange | undefined;
    await using bench = await Bench.start(fixture, (exchange) => {
      seen = exchange;
      exchange.reply({
        contentType: "application/json",
        metadata: new Metadata({ "X-Answer": "42" }),
        body: bytes(`got ${text(exchange.body)}`),
      });
    });
    const reply = await bench.client.call(
      bench.address,
      request("Greeter.Hello", bytes(`{"a":1}`), new Metadata({ "X-Question": "what" })),
      within(5_000),
    );
    assert.equal(text(reply.body), `got {"a":1}`);
    assert.equal(reply.error, undefined);
    assert.equal(reply.notRun, false);
    assert.equal(reply.contentType, "application/json");
    assert.equal(reply.header.get("X-Answer"), "42");
    assert.ok(seen !== undefined);
    assert.equal(seen.service, "test");
    assert.equal(seen.endpoint, "Greeter.Hello");
    assert.equal(seen.contentType, "application/json");
    assert.equal(seen.header.get("X-Question"), "what");
    assert.equal(seen.header.get("Micro-Endpoint"), "Greeter.Hello");
    assert.equal(seen.header.get("Micro-Service"), "test");
    assert.equal(seen.oldProtocol, false);
    assert.equal(seen.topic, undefined);
    assert.ok(seen.timeoutMs !== undefined && seen.timeoutMs > 0 && seen.timeoutMs <= 5_000);
    assert.notEqual(seen.remote, "");
    assert.notEqual(seen.local, "");
  },

  "without a deadline the handler sees none": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) =>
      exchange.reply({ body: bytes(String(exchange.timeoutMs)) }),
    );
    const reply = await bench.client.call(bench.address, request("T.M"), {});
    assert.equal(text(reply.body), "undefined");
  },

  "text is sent as UTF-8, in replies and in streams, where it can be given as text": async (fixture) => {
    const texts = [
      "a",
      "",
      "é",
      "x\u{1f600}\u0000\r\n",
      "y".repeat(47),
      "é".repeat(47),
      "z".repeat(9_000),
      "世".repeat(60_000),
    ];
    await using bench = await Bench.start(fixture, (exchange) => {
      const contentType = "application/json";
      if (exchange.endpoint === "T.Call") {
        const content = texts[Number(text(exchange.body))]!;
        if (exchange.replyText === undefined) exchange.reply({ contentType, body: bytes(content) });
        else exchange.replyText(contentType, content);
        return;
      }
      const stream = exchange.stream();
      void (async () => {
        for (const content of [...texts, ...texts]) {
          await (stream.sendText === undefined
            ? stream.send({ contentType, body: bytes(content) })
            : stream.sendText(contentType, content));
          await stream.send({ contentType, body: bytes("-") });
        }
        stream.end();
      })();
    });
    for (const [index, content] of texts.entries()) {
      const reply = await bench.client.call(bench.address, request("T.Call", bytes(String(index))), patient());
      assert.equal(text(reply.body), content);
      assert.equal(reply.contentType, "application/json");
      assert.ok(reply.text?.() === undefined || reply.text() === content);
    }
    const stream = await bench.client.open(bench.address, request("T.Stream"), patient());
    const received: string[] = [];
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      // Both, in either order: neither must spoil the other.
      const early = received.length % 2 === 0 ? message.text?.() : undefined;
      received.push(text(message.body));
      const late = message.text?.();
      assert.ok(early === undefined || early === received.at(-1));
      assert.ok(late === undefined || late === received.at(-1));
    }
    assert.deepEqual(
      received,
      [...texts, ...texts].flatMap((content) => [content, "-"]),
    );
  },

  "a request may be given as text, of which bytes can be made": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ body: exchange.body.slice() }));
    for (const content of ["", "a", "é", "x\u{1f600}\u0000\r\n", "y".repeat(9_000), "世".repeat(30_000)]) {
      const asText = {
        ...request("T.M"),
        text: content,
        get body() {
          return bytes(content);
        },
      };
      const reply = await bench.client.call(bench.address, asText, patient());
      assert.equal(text(reply.body), content);
    }
  },

  "an error comes back as the reply's error": async (fixture) => {
    const error = `{"id":"test","code":404,"detail":"no bób","status":"Not Found"}`;
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ error, body: noBytes }));
    const reply = await bench.client.call(bench.address, request("T.M"), patient());
    assert.equal(reply.error, error);
    assert.equal(reply.notRun, false);
    assert.equal(reply.body.length, 0);
  },

  "a body may come beside an error": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) =>
      exchange.reply({ contentType: "application/json-rpc", error: "no", body: bytes("envelope") }),
    );
    const reply = await bench.client.call(bench.address, request("T.M"), patient());
    assert.equal(reply.error, "no");
    assert.equal(text(reply.body), "envelope");
  },

  "an error text without a meaning for the wire still is an error": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ error: "", body: noBytes }));
    const reply = await bench.client.call(bench.address, request("T.M"), patient());
    assert.ok(reply.error !== undefined && reply.error !== "");
  },

  "a refusal is marked as not run": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) =>
      exchange.reply({ error: "draining", notRun: true, body: noBytes }),
    );
    const reply = await bench.client.call(bench.address, request("T.M"), patient());
    assert.equal(reply.error, "draining");
    assert.equal(reply.notRun, true);
  },

  "calls go on after an error": async (fixture) => {
    let count = 0;
    await using bench = await Bench.start(fixture, (exchange) =>
      exchange.reply(count++ % 2 === 0 ? { error: "no", body: noBytes } : { body: bytes("yes") }),
    );
    for (let index = 0; index < 10; index++) {
      const reply = await bench.client.call(bench.address, request("T.M"), patient());
      assert.equal(reply.error ?? text(reply.body), index % 2 === 0 ? "no" : "yes");
    }
  },

  "metadata keeps UTF-8 both ways and its names are canonical": async (fixture) => {
    const value = "é ü 漢字 🙂 à";
    let seen: Metadata | undefined;
    await using bench = await Bench.start(fixture, (exchange) => {
      seen = exchange.header;
      exchange.reply({ metadata: new Metadata({ "x-back": value }), body: noBytes });
    });
    const reply = await bench.client.call(
      bench.address,
      request("T.M", noBytes, new Metadata({ "x-some-name": value, "X-Proto": "__proto__" })),
      patient(),
    );
    assert.ok(seen !== undefined);
    assert.equal(seen.get("X-Some-Name"), value);
    assert.ok([...seen].some(([name]) => name === "X-Some-Name"));
    assert.equal(seen.get("X-Proto"), "__proto__");
    assert.equal(reply.header.get("X-Back"), value);
  },

  "line breaks in metadata and errors cannot add headers": async (fixture) => {
    let seen: Metadata | undefined;
    await using bench = await Bench.start(fixture, (exchange) => {
      seen = exchange.header;
      exchange.reply({
        error: "one\r\nX-Evil: 1",
        metadata: new Metadata().keep("X-A", "b\nX-Evil: 1"),
        body: noBytes,
      });
    });
    // As peers of other wires may have sent it.
    const metadata = new Metadata().keep("X-A", "b\r\nX-Evil: 1\r\n\r\n").keep("X-Nul", "a\0b");
    const reply = await bench.client.call(bench.address, request("T.M", noBytes, metadata), patient());
    assert.ok(seen !== undefined);
    assert.equal(seen.has("X-Evil"), false);
    assert.ok(seen.get("X-A")?.startsWith("b"));
    assert.equal(reply.header.has("X-Evil"), false);
    assert.ok(reply.error?.startsWith("one"));
  },

  "headers of the message itself are not taken from metadata": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) =>
      exchange.reply({ body: bytes(`${exchange.endpoint} ${exchange.header.get("Content-Length") ?? "0"}`) }),
    );
    const metadata = new Metadata({
      "Micro-Endpoint": "Other.Thing",
      "Content-Length": "5000",
      "Transfer-Encoding": "chunked",
      "Micro-Error": "EOS",
      "Micro-Stream": "1",
      Connection: "close",
    });
    const reply = await bench.client.call(bench.address, request("T.M", noBytes, metadata), patient());
    assert.equal(text(reply.body), "T.M 0");
  },

  "empty bodies stay empty": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ body: exchange.body }));
    const reply = await bench.client.call(bench.address, request("T.M"), patient());
    assert.equal(reply.body.length, 0);
    assert.equal(reply.error, undefined);
  },

  "1 MiB goes both ways unchanged": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ body: exchange.body }));
    const body = new Uint8Array(1024 * 1024);
    for (let index = 0; index < body.length; index++) body[index] = (index * 31) & 0xff;
    const reply = await bench.client.call(bench.address, request("T.M", body), patient());
    assert.ok(Buffer.from(reply.body).equals(body));
  },

  "a message above the listener's limit is refused and the listener lives": async (fixture) => {
    let calls = 0;
    await using bench = await Bench.start(
      fixture,
      (exchange) => {
        calls++;
        exchange.reply({ body: noBytes });
      },
      1_000,
    );
    await fails(bench.client.call(bench.address, request("T.M", new Uint8Array(1_001)), patient()), "too_large");
    assert.equal(calls, 0);
    await bench.client.call(bench.address, request("T.M", new Uint8Array(1_000)), patient());
    assert.equal(calls, 1);
  },

  "bytes are isolated: neither side sees what the other does to its own": async (fixture) => {
    let kept: Uint8Array | undefined;
    const answer = bytes("answer");
    await using bench = await Bench.start(fixture, (exchange) => {
      kept = exchange.body;
      exchange.reply({ body: answer });
    });
    const body = bytes("question");
    const reply = await bench.client.call(bench.address, request("T.M", body), patient());
    body.fill(0);
    answer.fill(0);
    assert.equal(text(kept ?? noBytes), "question");
    assert.equal(text(reply.body), "answer");
  },

  "replies may come in any order": async (fixture) => {
    const waiting: ServerExchange[] = [];
    await using bench = await Bench.start(fixture, (exchange) => {
      waiting.push(exchange);
      if (waiting.length === 3) for (const one of waiting.toReversed()) one.reply({ body: one.body });
    });
    const replies = await Promise.all(
      ["a", "b", "c"].map((name) => bench.client.call(bench.address, request("T.M", bytes(name)), patient())),
    );
    assert.deepEqual(
      replies.map((reply) => text(reply.body)),
      ["a", "b", "c"],
    );
  },

  "1000 calls in flight get each its own reply": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => {
      setTimeout(() => exchange.reply({ body: exchange.body }), 20);
    });
    const replies = await Promise.all(
      Array.from({ length: 1000 }, (_, index) =>
        bench.client.call(bench.address, request("T.M", bytes(`call ${index}`)), {
          ...within(18_000),
          // A thousand TLS handshakes are a second's work for each side, more on a busy machine.
          dialTimeoutMs: 18_000,
        }),
      ),
    );
    replies.forEach((reply, index) => assert.equal(text(reply.body), `call ${index}`));
  },

  "2000 calls in turn lose none": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ body: exchange.body }));
    for (let index = 0; index < 2000; index++) {
      const reply = await bench.client.call(bench.address, request("T.M", bytes(String(index))), patient());
      assert.equal(text(reply.body), String(index));
    }
  },

  "a call on a connection of its own works": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ body: bytes("fresh") }));
    for (let index = 0; index < 3; index++) {
      const reply = await bench.client.call(bench.address, request("T.M"), { ...patient(), freshConnection: true });
      assert.equal(text(reply.body), "fresh");
    }
  },

  "a second reply does nothing": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => {
      exchange.reply({ body: bytes("first") });
      exchange.reply({ body: bytes("second") });
    });
    for (let index = 0; index < 3; index++) {
      const reply = await bench.client.call(bench.address, request("T.M"), patient());
      assert.equal(text(reply.body), "first");
    }
  },

  "a passed deadline fails the call and cancels the handler": async (fixture) => {
    let exchange: ServerExchange | undefined;
    await using bench = await Bench.start(fixture, (one) => void (exchange = one));
    const error = await fails(bench.client.call(bench.address, request("T.M"), within(100)), "timeout");
    assert.equal(error.statusCode, 408);
    await until(() => exchange?.cancellation.reason !== undefined, "the handler is cancelled");
  },

  "a deadline in the past sends nothing": async (fixture) => {
    let calls = 0;
    await using bench = await Bench.start(fixture, (exchange) => {
      calls++;
      exchange.reply({ body: noBytes });
    });
    const error = await fails(bench.client.call(bench.address, request("T.M"), within(-1)), "timeout");
    assert.equal(error.notRun, true);
    await bench.client.call(bench.address, request("T.M"), patient());
    assert.equal(calls, 1);
  },

  "an aborted signal ends the call and cancels the handler": async (fixture) => {
    let exchange: ServerExchange | undefined;
    await using bench = await Bench.start(fixture, (one) => void (exchange = one));
    const controller = new AbortController();
    const call = bench.client.call(bench.address, request("T.M"), { ...patient(), signal: controller.signal });
    const failed = fails(call, "aborted");
    await until(() => exchange !== undefined, "the handler runs");
    controller.abort(new Error("changed my mind"));
    await failed;
    await until(() => exchange?.cancellation.reason !== undefined, "the handler is cancelled");
    assert.equal(exchange?.cancellation.reason?.code, "aborted");
    // Its reply has nowhere to go, and does no harm.
    exchange?.reply({ body: bytes("late") });
  },

  "a signal aborted beforehand sends nothing": async (fixture) => {
    let calls = 0;
    await using bench = await Bench.start(fixture, () => void calls++);
    const options = { ...patient(), signal: AbortSignal.abort() };
    assert.equal((await fails(bench.client.call(bench.address, request("T.M"), options), "aborted")).notRun, true);
    await fails(bench.client.open(bench.address, request("T.M"), options), "aborted");
    assert.equal(calls, 0);
  },

  "an address where nobody listens refuses, and nothing ran": async (fixture) => {
    const client = fixture.connect?.() ?? fixture.transport;
    const address = fixture.unreachable ?? "127.0.0.1:1";
    assert.equal((await fails(client.call(address, request("T.M"), patient()), "unavailable")).notRun, true);
    assert.equal((await fails(client.open(address, request("T.M"), patient()), "unavailable")).notRun, true);
    if (client !== fixture.transport) await client[Symbol.asyncDispose]();
  },

  "text that is no address cannot be listened on": async (fixture) => {
    for (const address of ["nonsense", "127.0.0.1:70000", "127.0.0.1:x", "127.0.0.1:9-5"])
      await fails(
        fixture.transport.listen(() => {}, { address }),
        "bad_request",
      );
  },

  "a taken address cannot be listened on, a range finds the next": async (fixture) => {
    await using bench = await Bench.start(fixture, (exchange) => exchange.reply({ body: noBytes }));
    await fails(
      fixture.transport.listen(() => {}, { address: bench.address }),
      "unavailable",
    );
    const colon = bench.address.lastIndexOf(":");
    const port = Number(bench.address.slice(colon + 1));
    const range = `${bench.address.slice(0, colon)}:${port}-${Math.min(65_535, port + 50)}`;
    await using next = await fixture.transport.listen(() => {}, { address: range });
    assert.notEqual(next.address, bench.address);
  },

  "a stream carries messages both ways in turn": async (fixture) => {
    const { handler, failures } = streaming(echoAll);
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    for (let index = 0; index < 1000; index++) {
      await stream.send(bytes(`m${index}`));
      const message = await stream.receive();
      assert.equal(text(message?.body ?? noBytes), `m${index}`);
      assert.equal(message?.contentType, "application/json");
    }
    stream.closeSend();
    assert.equal(await stream.receive(), undefined);
    assert.equal(await stream.receive(), undefined);
    assert.deepEqual(failures, []);
  },

  "what a server sends in quick succession arrives whole and in order": async (fixture) => {
    const { handler, failures } = streaming(async (stream) => {
      for (let index = 0; index < 1000; index++) await stream.send({ body: bytes(`item ${index}`) });
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    const items = await readAll(stream);
    assert.deepEqual(
      items,
      Array.from({ length: 1000 }, (_, index) => `item ${index}`),
    );
    assert.deepEqual(failures, []);
  },

  "what a client sends in quick succession arrives whole and in order": async (fixture) => {
    const { handler, failures } = streaming(async (stream) => {
      const all: string[] = [];
      for (let body = await stream.receive(); body !== undefined; body = await stream.receive()) all.push(text(body));
      await stream.send({ body: bytes(all.join(",")) });
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    for (let index = 0; index < 1000; index++) await stream.send(bytes(String(index)));
    stream.closeSend();
    assert.deepEqual(await readAll(stream), [Array.from({ length: 1000 }, (_, index) => String(index)).join(",")]);
    assert.deepEqual(failures, []);
  },

  "an empty message is a message, not an end": async (fixture) => {
    const { handler } = streaming(echoAll);
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    await stream.send(noBytes);
    assert.equal((await stream.receive())?.body.length, 0);
    stream.closeSend();
    assert.equal(await stream.receive(), undefined);
  },

  "the body of the opening message is not part of the stream": async (fixture) => {
    const { handler } = streaming(echoAll);
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S", bytes("dropped")), patient());
    stream.closeSend();
    assert.deepEqual(await readAll(stream), []);
  },

  "after half-closing a client still receives": async (fixture) => {
    let sawEnd = false;
    const { handler } = streaming(async (stream) => {
      while ((await stream.receive()) !== undefined);
      sawEnd = true;
      for (const item of ["a", "b", "c"]) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        await stream.send({ body: bytes(item) });
      }
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    await stream.send(bytes("x"));
    stream.closeSend();
    await fails(Promise.resolve(stream.send(bytes("late"))), "closed");
    assert.deepEqual(await readAll(stream), ["a", "b", "c"]);
    assert.equal(sawEnd, true);
  },

  "a server that is slow to answer a half-closed stream is waited for": async (fixture) => {
    const { handler } = streaming(async (stream) => {
      while ((await stream.receive()) !== undefined);
      // The slowness is what is tested: longer than any pause in which a caller might take silence for the end.
      await new Promise((resolve) => setTimeout(resolve, 900));
      await stream.send({ body: bytes("at last") });
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    stream.closeSend();
    assert.deepEqual(await readAll(stream), ["at last"]);
  },

  "a stream's error follows its messages": async (fixture) => {
    const { handler } = streaming(async (stream) => {
      await stream.send({ body: bytes("one") });
      stream.end({ error: "broken", body: noBytes });
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    assert.equal(text((await stream.receive())?.body ?? noBytes), "one");
    assert.equal((await stream.receive())?.error, "broken");
    assert.equal(await stream.receive(), undefined);
  },

  "a server may end a stream while the client sends, and runs once": async (fixture) => {
    let runs = 0;
    const { handler } = streaming(async (stream) => {
      runs++;
      await stream.receive();
      stream.end({ error: "enough", body: noBytes });
      await fails(Promise.resolve(stream.send({ body: noBytes })), "closed");
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    const sending = (async () => {
      for (let index = 0; index < 10_000; index++) {
        await stream.send(bytes("more"));
        if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const failed = fails(sending, "closed", "unavailable");
    assert.equal((await stream.receive())?.error, "enough");
    assert.equal(await stream.receive(), undefined);
    await failed;
    await bench.client.call(bench.address, request("T.S"), within(200)).catch(() => {});
    assert.ok(runs <= 2, `the handler ran ${runs} times`);
  },

  "a slow reader holds back a server": async (fixture) => {
    let sent = 0;
    const body = new Uint8Array(64 * 1024);
    const { handler } = streaming(async (stream) => {
      for (; sent < 1000; sent++) await stream.send({ body });
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    await stream.receive();
    await settled(() => sent);
    assert.ok(sent < 500, `${sent} messages of 64 KiB were sent to a reader who took one`);
    let received = 1;
    while ((await stream.receive()) !== undefined) received++;
    assert.equal(received, 1000);
  },

  "a slow reader holds back a client": async (fixture) => {
    const body = new Uint8Array(64 * 1024);
    const go = Promise.withResolvers<void>();
    let received = 0;
    const { handler, failures } = streaming(async (stream) => {
      await go.promise;
      while ((await stream.receive()) !== undefined) received++;
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    let sent = 0;
    const sending = (async () => {
      for (; sent < 1000; sent++) await stream.send(body);
      stream.closeSend();
    })();
    await settled(() => sent);
    assert.ok(sent < 500, `${sent} messages of 64 KiB were sent to a reader who took none`);
    go.resolve();
    await sending;
    assert.deepEqual(await readAll(stream), []);
    assert.equal(received, 1000);
    assert.deepEqual(failures, []);
  },

  "a client's cancel reaches the handler, and its own receive": async (fixture) => {
    let exchange: ServerExchange | undefined;
    const { handler, failures } = streaming(async (stream, one) => {
      exchange = one;
      await stream.send({ body: bytes("one") });
      await stream.receive();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), {});
    await stream.receive();
    const waiting = fails(stream.receive(), "aborted");
    stream.cancel();
    stream.cancel();
    await waiting;
    await fails(Promise.resolve(stream.send(bytes("late"))), "aborted");
    await until(() => exchange?.cancellation.reason !== undefined, "the handler is cancelled");
    await until(() => failures.length === 1, "the handler's receive fails");
    assert.ok(MicroError.is(failures[0]) && failures[0].code === "aborted");
    const late = Promise.resolve(exchange?.stream().send({ body: noBytes }));
    await fails(late, "aborted");
  },

  "a signal cancels a stream": async (fixture) => {
    let exchange: ServerExchange | undefined;
    const { handler } = streaming(async (stream, one) => {
      exchange = one;
      await stream.receive();
    });
    await using bench = await Bench.start(fixture, handler);
    const controller = new AbortController();
    const stream = await bench.client.open(bench.address, request("T.S"), { signal: controller.signal });
    const waiting = fails(stream.receive(), "aborted");
    await until(() => exchange !== undefined, "the handler runs");
    controller.abort();
    await waiting;
    await until(() => exchange?.cancellation.reason !== undefined, "the handler is cancelled");
  },

  "a deadline ends a stream on both sides": async (fixture) => {
    let exchange: ServerExchange | undefined;
    const { handler } = streaming(async (stream, one) => {
      exchange = one;
      await stream.receive();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), within(150));
    await fails(stream.receive(), "timeout");
    await until(() => exchange?.cancellation.reason !== undefined, "the handler is cancelled");
  },

  "a listener that goes away fails what runs there": async (fixture) => {
    const exchanges: ServerExchange[] = [];
    const bench = await Bench.start(fixture, (exchange) => {
      exchanges.push(exchange);
      if (exchange.endpoint === "T.S") exchange.stream();
    });
    await using _ = bench;
    const call = fails(bench.client.call(bench.address, request("T.M"), patient()), "unavailable");
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    const receiving = fails(stream.receive(), "unavailable");
    await until(() => exchanges.length === 2, "both handlers run");
    await bench.listener[Symbol.asyncDispose]();
    assert.equal((await call).notRun, false);
    await receiving;
    for (const exchange of exchanges) assert.notEqual(exchange.cancellation.reason, undefined);
    assert.equal(
      (await fails(bench.client.call(bench.address, request("T.M"), patient()), "unavailable")).notRun,
      true,
    );
    await bench.listener[Symbol.asyncDispose]();
  },

  "a reply given just before disposal arrives": async (fixture) => {
    let exchange: ServerExchange | undefined;
    await using bench = await Bench.start(fixture, (one) => void (exchange = one));
    const body = new Uint8Array(256 * 1024).fill(7);
    const call = bench.client.call(bench.address, request("T.M"), patient());
    await until(() => exchange !== undefined, "the handler runs");
    exchange?.reply({ body });
    await bench.listener[Symbol.asyncDispose]();
    assert.ok(Buffer.from((await call).body).equals(body));
  },

  "a closed listener takes no new callers and serves those it has": async (fixture) => {
    const waiting: ServerExchange[] = [];
    await using bench = await Bench.start(fixture, (exchange) => waiting.push(exchange));
    const running = bench.client.call(bench.address, request("T.M"), patient());
    await until(() => waiting.length === 1, "the handler runs");
    await bench.listener.close();
    await bench.listener.close();
    const options = { ...patient(), freshConnection: true };
    const error = await fails(bench.client.call(bench.address, request("T.M"), options), "unavailable");
    assert.equal(error.notRun, true);
    waiting[0]?.reply({ body: bytes("still here") });
    assert.equal(text((await running).body), "still here");
  },

  "disposing the client fails what it runs with closed, and what comes after": async (fixture) => {
    const exchanges: ServerExchange[] = [];
    await using bench = await Bench.start(fixture, (exchange) => {
      exchanges.push(exchange);
      if (exchange.endpoint === "T.S") exchange.stream();
    });
    const call = fails(bench.client.call(bench.address, request("T.M"), patient()), "closed");
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    const receiving = fails(stream.receive(), "closed");
    await until(() => exchanges.length === 2, "both handlers run");
    await bench.client[Symbol.asyncDispose]();
    await bench.client[Symbol.asyncDispose]();
    await Promise.all([call, receiving]);
    await until(() => exchanges.every((one) => one.cancellation.reason !== undefined), "the handlers are cancelled");
    assert.equal((await fails(bench.client.call(bench.address, request("T.M"), patient()), "closed")).notRun, true);
    await fails(bench.client.open(bench.address, request("T.S"), patient()), "closed");
    await fails(
      bench.client.listen(() => {}),
      "closed",
    );
  },

  "a handler that throws gives its caller an error": async (fixture) => {
    await using bench = await Bench.start(fixture, () => {
      throw new Error("bug");
    });
    const reply = await bench.client.call(bench.address, request("T.M"), patient());
    assert.ok(reply.error?.includes("bug"));
  },

  "no call leaves a listener on its caller's signal, however it ends": async (fixture, leaks) => {
    const unanswered: ServerExchange[] = [];
    await using bench = await Bench.start(fixture, (exchange) => {
      if (exchange.endpoint === "T.Silent") unanswered.push(exchange);
      else if (exchange.endpoint === "T.Error") exchange.reply({ error: "no", body: noBytes });
      else exchange.reply({ body: exchange.body });
    });
    // One signal for many calls, as a service that is being stopped has it.
    const many = leaks.controller();
    const call = (endpoint: string, options: ExchangeOptions = {}, address = bench.address) =>
      bench.client.call(address, request(endpoint, bytes("{}")), { ...patient(), signal: many.signal, ...options });
    const free = (after: string): void =>
      assert.equal(getEventListeners(many.signal, "abort").length, 0, `a listener is left after ${after}`);
    for (let index = 0; index < 20; index++) await call("T.M");
    free("replies");
    await Promise.all(Array.from({ length: 20 }, () => call("T.M", { freshConnection: true })));
    free("replies on connections of their own");
    await call("T.Error");
    free("an error");
    await fails(call("T.M", {}, fixture.unreachable ?? "127.0.0.1:1"), "unavailable");
    free("a refused connection");
    await fails(call("T.Silent", within(30)), "timeout");
    free("a passed deadline");
    await fails(call("T.M", within(-1)), "timeout");
    free("a deadline in the past");
    const cancelled = leaks.controller();
    const running = fails(call("T.Silent", { signal: cancelled.signal }), "aborted");
    await until(() => unanswered.length === 2, "the call runs");
    cancelled.abort();
    await running;
    await fails(call("T.M", { signal: cancelled.signal }), "aborted");
    const lost = fails(call("T.Silent"), "aborted", "closed", "unavailable");
    await until(() => unanswered.length === 3, "the call runs");
    await bench.listener[Symbol.asyncDispose]();
    await lost;
    free("a listener that went away");
    many.abort();
  },

  "no stream leaves a listener on its caller's signal, however it ends": async (fixture, leaks) => {
    const { handler } = streaming(async (stream, exchange) => {
      if (exchange.endpoint === "T.Error") stream.end({ error: "no", body: noBytes });
      else if (exchange.endpoint === "T.Silent") await stream.receive();
      else await echoAll(stream);
    });
    await using bench = await Bench.start(fixture, handler);
    const many = leaks.controller();
    const open = (endpoint: string, options: ExchangeOptions = {}, address = bench.address) =>
      bench.client.open(address, request(endpoint), { ...patient(), signal: many.signal, ...options });
    const free = (after: string): void =>
      assert.equal(getEventListeners(many.signal, "abort").length, 0, `a listener is left after ${after}`);
    for (let index = 0; index < 5; index++) {
      const stream = await open("T.Echo");
      await stream.send(bytes("a"));
      stream.closeSend();
      assert.deepEqual(await readAll(stream), ["a"]);
    }
    free("ends");
    assert.equal((await (await open("T.Error")).receive())?.error, "no");
    free("an error");
    (await open("T.Silent")).cancel();
    free("a cancelled one");
    await fails((await open("T.Silent", within(200))).receive(), "timeout");
    free("a passed deadline");
    await fails(open("T.Echo", {}, fixture.unreachable ?? "127.0.0.1:1"), "unavailable");
    free("a refused connection");
    const cancelled = leaks.controller();
    const stopped = await open("T.Silent", { signal: cancelled.signal });
    cancelled.abort();
    await fails(stopped.receive(), "aborted");
    await fails(open("T.Echo", { signal: cancelled.signal }), "aborted");
    const left = await open("T.Silent");
    if (fixture.connect !== undefined) {
      await bench.client[Symbol.asyncDispose]();
      await fails(left.receive(), "closed");
      free("disposal");
    } else left.cancel();
    many.abort();
  },

  "what calls and streams take is given back while the transport lives on, however they end": async (
    fixture,
    leaks,
  ) => {
    using entries = watchEntries();
    const kept = new Keepsakes();
    const running: ServerExchange[] = [];
    await using bench = await Bench.start(fixture, Ends.handler(kept, running), 200_000);
    for (const [name, end] of Object.entries(new Ends(fixture, bench, kept, running).all)) {
      // The first ones may make what all share.
      for (let index = 0; index < 3; index++) await end();
      running.length = 0;
      const before = { standing: leaks.standing(), entries: entries.count() };
      kept.clear();
      const rounds = 15;
      for (let index = 0; index < rounds; index++) await end();
      running.length = 0;
      await until(
        () => leaks.standing() <= before.standing + 2,
        `timers, sockets and listeners are given back after ${name}`,
      );
      // Addresses may be remembered, with what is said to them.
      if (name !== "a listener that goes away")
        await until(
          () => entries.count() < before.entries + rounds / 2,
          `entries of maps and sets are taken out again after ${name}`,
        );
      // The last ones may still be in the hands of whoever ran them.
      await kept.atMost((3 * kept.added) / rounds, `objects that served ${name}`);
    }
  },

  "a call that is said not to have run has not, whenever it was cancelled": async (fixture, leaks) => {
    let ran = 0;
    await using bench = await Bench.start(fixture, (exchange) => {
      ran++;
      exchange.reply({ body: noBytes });
    });
    let mayHaveRun = 0;
    for (let round = 0; round < 40; round++) {
      const controller = leaks.controller();
      const options = { ...patient(), signal: controller.signal, freshConnection: round % 2 === 0 };
      const call = bench.client.call(bench.address, request("T.M"), options).then(
        () => mayHaveRun++,
        (error: unknown) => {
          assert.ok(MicroError.is(error) && error.code === "aborted", String(error));
          if (!error.notRun) mayHaveRun++;
        },
      );
      // While it is dialled, just after, and while it runs.
      const turns = round % 8;
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      controller.abort();
      await call;
    }
    await bench.client.call(bench.address, request("T.M"), patient());
    assert.ok(ran - 1 <= mayHaveRun, `${ran - 1} ran, of ${mayHaveRun} that may have`);
  },

  "a call whose deadline passed before it could be sent does not run": async (fixture) => {
    const ran: string[] = [];
    await using bench = await Bench.start(fixture, (exchange) => {
      ran.push(text(exchange.body));
      if (text(exchange.body) === "warm") exchange.reply({ body: noBytes });
    });
    for (const warm of [false, true]) {
      if (warm) await bench.client.call(bench.address, request("T.M", bytes("warm")), patient());
      const late = bench.client.call(bench.address, request("T.M", bytes("late")), {
        ...within(20),
        freshConnection: !warm,
      });
      const before = ran.length;
      const end = performance.now() + 60;
      while (performance.now() < end);
      const error = await fails(late, "timeout");
      await bench.client.call(bench.address, request("T.M", bytes("warm")), patient());
      if (error.notRun) assert.equal(ran.slice(before).includes("late"), false, "it ran after its deadline");
    }
  },

  "a far deadline is none that has passed": async (fixture) => {
    const { handler } = streaming(async (stream, exchange) => {
      assert.ok(exchange.cancellation.reason === undefined);
      await echoAll(stream);
    });
    let left: number | undefined;
    let cancelled: unknown;
    await using bench = await Bench.start(fixture, (exchange) => {
      if (exchange.endpoint === "T.Stream") return handler(exchange);
      left = exchange.timeoutMs;
      const { cancellation } = exchange;
      // Behind a timer of 1 ms, which is what Node makes of one that is too far.
      setTimeout(() => {
        cancelled = cancellation.reason ?? (cancellation.signal.aborted || undefined);
        exchange.reply({ body: noBytes });
      }, 30);
      void cancellation.signal;
      return undefined;
    });
    for (const far of [2 ** 31 - 1, 2 ** 31, 2 ** 32 + 5, 1e12]) {
      const options = { ...within(far), dialTimeoutMs: far };
      await bench.client.call(bench.address, request("T.M"), options);
      // A wire may not be able to say more than 49 days.
      assert.ok(left !== undefined && left > Math.min(far, 2 ** 32 - 1) - 10_000, `${left} ms of ${far} are left`);
      assert.equal(cancelled, undefined);
      const stream = await bench.client.open(bench.address, request("T.Stream"), options);
      await stream.send(bytes("a"));
      // As above.
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.equal(text((await stream.receive())?.body ?? noBytes), "a");
      stream.closeSend();
      assert.equal(await stream.receive(), undefined);
    }
  },

  "two receives at once are refused": async (fixture) => {
    const { handler } = streaming(async (stream) => {
      await stream.receive();
      await stream.send({ body: bytes("x") });
      stream.end();
    });
    await using bench = await Bench.start(fixture, handler);
    const stream = await bench.client.open(bench.address, request("T.S"), patient());
    const first = stream.receive();
    await assert.rejects(stream.receive(), TypeError);
    stream.closeSend();
    assert.equal(text((await first)?.body ?? noBytes), "x");
  },
};

/** Wait until a counter has stopped for a while: what backpressure does to a sender. */
async function settled(count: () => number): Promise<void> {
  let last = -1;
  let since = performance.now();
  const end = since + 10_000;
  while (performance.now() - since < 200) {
    assert.ok(performance.now() < end, "the sender is never held back");
    if (count() !== last) {
      last = count();
      since = performance.now();
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
