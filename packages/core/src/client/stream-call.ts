/** Calls whose request, answer or both are streams. */
import type { Streamable } from "../definition.ts";
import { MicroError } from "../errors.ts";
import type { Metadata } from "../metadata.ts";
import type { Selection } from "../selector/selector.ts";
import type { ClientExchange } from "../transport/transport.ts";
import { Attempts } from "./attempts.ts";
import type { Attempt, Call } from "./call-context.ts";
import { Channel, ChannelStream } from "./channel.ts";
import type { ClientStream } from "./client.ts";
import { clientId } from "./deadline.ts";
import type { ClientCore } from "./core.ts";
import { unused } from "./look-up.ts";
import { MovableExchange, type Refusal } from "./movable-exchange.ts";
import { Pump } from "./pump.ts";
import { MessageStream } from "./stream.ts";
import { TrackedIterator } from "./tracked-iterator.ts";
import { peerError, type Wire } from "./wire.ts";

/** Open a stream by definition: an async iterable of answers, or for a client stream the answer. */
export function startStream(core: ClientCore, call: Call, request: unknown): Promise<unknown> {
  return new StreamCall(core, call, request, call.kind as StreamMode).start();
}

/** Open a stream by name. */
export function openStream(core: ClientCore, call: Call): Promise<ClientStream> {
  return new StreamCall(core, call, undefined, "open").start() as Promise<ClientStream>;
}

/** `open` hands the stream itself to the caller. */
type StreamMode = "server" | "client" | "bidi" | "open";

/** A stream on its way to another node, and how it was opened. */
interface Moving {
  readonly stream: MessageStream;
  readonly wire: Wire;
  readonly metadata: Metadata | undefined;
}

class StreamCall extends Attempts<unknown> {
  readonly #mode: StreamMode;
  /** Something of the input was sent, so that no other node can take over. */
  #begun = false;
  #delivered = false;
  #running = 0;
  #released = false;
  /** A stream that is moving to another node: what an attempt opens then is for it. */
  #moving: Moving | undefined;

  constructor(core: ClientCore, call: Call, request: unknown, mode: StreamMode) {
    super(core, call, request);
    this.#mode = mode;
  }

  override start(): Promise<unknown> {
    this.call.link();
    this.core.streams.add(this.call);
    return super.start().then(
      (result) => {
        this.#delivered = true;
        this.#release();
        return result;
      },
      (error: unknown) => {
        this.#delivered = true;
        this.#release();
        throw error;
      },
    );
  }

  protected override attempt(): Promise<unknown> {
    if (this.#moving !== undefined) return this.#reopen(this.#moving).catch((error: unknown) => this.failed(error));
    const wire = this.wire();
    if (wire === undefined || this.core.aroundAttempt !== undefined) {
      const channel = this.#mode === "open" ? new Channel() : undefined;
      if (channel !== undefined) this.request = channel;
      return this.around((result) => {
        this.done();
        if (channel === undefined) return result;
        const stream = new ChannelStream(channel, expectIterable(result), this.call);
        void stream.begin();
        return stream;
      });
    }
    return this.#connect(this.request, this.call.sentMetadata, this.#mode).catch((error: unknown) =>
      this.failed(error),
    );
  }

  override carry(request: unknown, attempt: Attempt): Promise<unknown> {
    const mode = this.#mode === "open" ? "bidi" : this.#mode;
    if (this.wire() === undefined) return this.#foreign(request, attempt);
    return this.#connect(request, attempt.metadata.size === 0 ? undefined : attempt.metadata, mode);
  }

  /** Only what did not run is repeated; once something was sent, only by a stream that has kept it. */
  protected override mayRetry(error: MicroError): boolean {
    return error.notRun && (!this.#begun || this.#moving !== undefined);
  }

  async #connect(request: unknown, metadata: Metadata | undefined, mode: StreamMode): Promise<unknown> {
    let pump: Pump | undefined;
    const stream = await this.#open(metadata, mode !== "server", () => pump?.stop());
    if (mode === "open") return stream;
    if (mode === "server") {
      await this.#first(stream, request);
      return stream;
    }
    this.#begun = true;
    pump = new Pump(stream, request as Streamable<unknown>, this.core.logger);
    if (stream.over) pump.stop();
    else void pump.run();
    if (mode === "bidi") return stream;
    try {
      // The first message is the answer: Go servers send no end of stream to a caller that closed its side.
      const answer = await stream.receive();
      stream.finish();
      if (answer !== undefined) return answer;
    } catch (error) {
      throw this.#note(stream, error);
    }
    throw new MicroError(`${stream.toString()}: the stream ended without an answer`, {
      id: clientId,
      code: "protocol",
    });
  }

  /** Send the one request and wait for what comes first, so that a refusal can still move on to another node. */
  async #first(stream: MessageStream, request: unknown): Promise<void> {
    let sending: void | Promise<void> = undefined;
    try {
      sending = stream.push(request);
    } catch (error) {
      stream.fail(error);
    }
    // A peer that answers without reading may be gone when all is sent: what it answered counts.
    await sending?.catch(() => {});
    try {
      await stream.peek();
    } catch (error) {
      throw this.#note(stream, error);
    }
  }

  #note(stream: MessageStream, error: unknown): unknown {
    this.answered = stream.answered;
    this.hopeless = stream.inputFailed;
    this.refused = stream.refused || (!stream.answered && MicroError.is(error) && error.notRun);
    return error;
  }

  async #open(metadata: Metadata | undefined, movable: boolean, onEnd: () => void): Promise<MessageStream> {
    const { core, call } = this;
    const wire = this.wire()!;
    const opened = await this.#exchange(wire, metadata);
    this.#running += 1;
    // Read by nobody before the stream is there.
    const stream: { current?: MessageStream } = {};
    const exchange = movable
      ? new MovableExchange(opened, (refusal) => this.#move(stream.current!, wire, metadata, refusal))
      : opened;
    stream.current = new MessageStream({
      call,
      exchange,
      wire,
      wires: core.wires,
      selection: this.#handOver(),
      onEnd: () => {
        onEnd();
        this.#running -= 1;
        this.#release();
      },
    });
    return stream.current;
  }

  async #exchange(wire: Wire, metadata: Metadata | undefined): Promise<ClientExchange> {
    const { address } = this.selection.node;
    const request = this.exchangeRequest(wire, metadata);
    let exchange;
    try {
      exchange = await this.core.transport.open(address, request, this.exchangeOptions());
    } catch (error) {
      throw this.noteTransport(error);
    }
    this.verdict = undefined;
    this.refused = false;
    return exchange;
  }

  /** The stream was not run where it is: on to another node, as with an opening that failed. */
  #move(stream: MessageStream, wire: Wire, metadata: Metadata | undefined, refusal: Refusal): Promise<ClientExchange> {
    const peer = "message" in refusal ? peerError(wire, refusal.message, stream)! : undefined;
    const error = "error" in refusal ? this.noteTransport(refusal.error) : peer!.error;
    if (peer !== undefined) {
      this.answered = true;
      this.refused = peer.refused;
    }
    stream.leave(error);
    this.handedOver = true;
    this.#moving = { stream, wire, metadata };
    return this.failed(error).finally(() => {
      this.#moving = undefined;
    }) as Promise<ClientExchange>;
  }

  async #reopen({ stream, wire, metadata }: Moving): Promise<ClientExchange> {
    const { selection } = this;
    if (this.wire() !== wire) {
      // What was sent is written for nodes of another kind.
      this.hopeless = true;
      throw new MicroError(`${this.toString()}: a stream that has begun cannot move to this node`, {
        id: clientId,
        code: "unavailable",
        notRun: true,
      });
    }
    const exchange = await this.#exchange(wire, metadata);
    this.handedOver = true;
    if (stream.over) {
      selection.done(unused);
      exchange.cancel();
    } else stream.enter(selection);
    return exchange;
  }

  async #foreign(request: unknown, attempt: Attempt): Promise<unknown> {
    const result = await this.carryOther(request, attempt);
    if (this.#mode === "client") return result;
    const selection = this.#handOver();
    this.#running += 1;
    return new TrackedIterator(expectIterable(result), (error) => {
      this.verdict = undefined;
      this.noteOther(error);
      selection.done(this.verdict);
      this.#running -= 1;
      this.#release();
    });
  }

  /** From now on the stream tells the selector; a wrapper that opens a second one on the same node tells nothing. */
  #handOver(): Selection {
    const { selection, handedOver } = this;
    this.handedOver = true;
    return handedOver ? { node: selection.node, service: selection.service, done() {} } : selection;
  }

  #release(): void {
    if (!this.#delivered || this.#running > 0 || this.#released) return;
    this.#released = true;
    this.call.unlink();
    this.core.streams.delete(this.call);
  }
}

function expectIterable(result: unknown): AsyncIterable<unknown> {
  if (typeof (result as Partial<AsyncIterable<unknown>> | undefined)?.[Symbol.asyncIterator] === "function")
    return result as AsyncIterable<unknown>;
  throw new TypeError("a wrapper of a stream must return an async iterable");
}
