/** Go publishers and subscribers: commands `publish` and `subscribe` of the peer, with a broker of the column's generation. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { GoProcess, Line } from "./go-process.ts";
import type { Pair } from "./pair.ts";

/** `json` is a Go struct, `proto` and `jsonproto` a generated message, `frame` a body as it is, `broker` below client and server. */
export type Encoding = "json" | "proto" | "jsonproto" | "grpcjson" | "frame" | "broker";

/** What a Go subscriber tells of one event. */
export interface GoEvent {
  /** Of the message; with encoding `broker` the topic. */
  readonly text: string;
  readonly header: Readonly<Record<string, string>>;
  /** Of the data, which is here as base64 unless it is large: then its hash is. */
  readonly size: number;
  readonly data?: string | null;
  readonly sha256?: string;
}

/** What a Go publisher is to publish. */
export interface GoPublication {
  readonly topic: string;
  readonly encoding: Encoding;
  readonly text?: string;
  /** Base64. */
  readonly data?: string;
  /** As many bytes of {@link filled} as data. */
  readonly fill?: number;
  readonly header?: Readonly<Record<string, string>>;
}

/** The bytes that a peer fills data with. */
export function filled(size: number): Buffer {
  return Buffer.alloc(size, "0123456789abcdef");
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export class GoSubscriber implements AsyncDisposable {
  readonly process: GoProcess;
  readonly #signal: "SIGTERM" | "SIGKILL";

  private constructor(process: GoProcess, signal: "SIGTERM" | "SIGKILL") {
    this.process = process;
    this.#signal = signal;
  }

  /** One that has subscribed. Kafka's has not joined its group by then: publish until something arrives. */
  static async start(
    pair: Pair,
    broker: string,
    options: { topic: string; queue?: string; encoding?: Encoding; name?: string; grpc?: boolean },
  ): Promise<GoSubscriber> {
    const parameters = ["-broker", broker, "-topic", options.topic, "-encoding", options.encoding ?? "json"];
    if (options.queue !== undefined) parameters.push("-queue", options.queue);
    if (options.grpc === true) parameters.push("-grpc");
    if (options.name !== undefined) parameters.push("-name", options.name);
    const process = pair.start("subscribe", ...parameters);
    // v2's Kafka subscriber may ignore SIGTERM, and nobody registers with Kafka's.
    const subscriber = new GoSubscriber(process, broker.startsWith("kafka") ? "SIGKILL" : "SIGTERM");
    try {
      await process.line("ready", (line) => line["ready"] === true || "fatal" in line);
      assert.ok(!process.lines.some((line) => "fatal" in line), process.describe());
    } catch (error) {
      await subscriber[Symbol.asyncDispose]();
      throw error;
    }
    return subscriber;
  }

  /** What it has received, in order. */
  get events(): GoEvent[] {
    return this.process.lines.filter((line) => line["event"] === true) as unknown as GoEvent[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill(this.#signal);
    await this.process[Symbol.asyncDispose]();
  }
}

export class GoPublisher implements AsyncDisposable {
  readonly #process: GoProcess;
  /** Subscribers the http broker is to wait for; others know none. */
  readonly #nodes: number;
  #published = 0;

  private constructor(process: GoProcess, nodes: number) {
    this.#process = process;
    this.#nodes = nodes;
  }

  static async start(
    pair: Pair,
    broker: string,
    options: { subscribers?: number; grpc?: boolean; linger?: string } = {},
  ): Promise<GoPublisher> {
    const parameters = ["-broker", broker, "-linger", options.linger ?? "500ms"];
    if (options.grpc === true) parameters.push("-grpc");
    const process = pair.startWithInput("publish", ...parameters);
    const publisher = new GoPublisher(process, broker === "http" ? (options.subscribers ?? 1) : 0);
    try {
      await process.line("ready", (line) => line["ready"] === true);
    } catch (error) {
      await process[Symbol.asyncDispose]();
      throw error;
    }
    return publisher;
  }

  /** Publish, and say what it said: an `error`, or none. */
  async attempt(publication: GoPublication): Promise<Line> {
    const number = this.#published++;
    this.#process.write({ nodes: this.#nodes, ...publication });
    let seen = 0;
    return this.#process.line("published", (line) => line["published"] === true && seen++ === number);
  }

  async publish(publication: GoPublication): Promise<void> {
    assert.equal((await this.attempt(publication))["error"], undefined);
  }

  /** Let it send the last, and end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.endInput();
    const late = setTimeout(() => this.#process.kill("SIGKILL"), 5_000);
    await this.#process.exited;
    clearTimeout(late);
  }
}
