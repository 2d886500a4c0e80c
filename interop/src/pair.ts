/** One column group of the matrix: a generation of go-micro, and how the called side is found. */
import { randomUUID } from "node:crypto";
import type { CallOptions } from "@micro/core";
import { GoProcess, type Line } from "./go-process.ts";
import { type OurService, type Runs, ourGreeter } from "./our-service.ts";

export type Generation = "v2" | "v4" | "v5";
export const versions: Readonly<Record<Generation, string>> = { v2: "v2.9.1", v4: "v4.11.0", v5: "v5.30.0" };

export type Via = "mdns" | "address";

/** A Go server that is up and registered. */
export interface GoServer extends AsyncDisposable {
  readonly name: string;
  readonly address: string;
  /** Node id. */
  readonly id: string;
  readonly process: GoProcess;
}

export interface GoClientOptions {
  scenario?: "call" | "types" | "sequential" | "concurrent" | "chat" | "count";
  /** Default: our service. */
  service?: string;
  /** Default: as the column says. */
  address?: string | undefined;
  /** E.g. `etcd@127.0.0.1:2379`. Default: mdns. */
  registry?: string;
  endpoint: string;
  encoding?: "json" | "proto" | "jsonproto";
  body?: unknown;
  metadata?: Readonly<Record<string, string>>;
  /** Durations as Go writes them, e.g. `300ms`. */
  timeout?: string;
  attempt?: string;
  deadline?: string;
  cancel?: string;
  linger?: string;
  limit?: string;
  n?: number;
  parallel?: number;
  fill?: number;
  retries?: number;
  fresh?: boolean;
  /** How long to wait for the service to be found. Default: 15 s by mdns. */
  await?: string;
}

/** Programs of both sides that stay up for all scenarios of a generation. */
export class Pair {
  readonly generation: Generation;
  readonly #binary: string;
  readonly #home: string;
  /** Ours that Go calls, and whose client calls Go. */
  readonly ours: OurService;
  readonly runs: Runs;
  readonly goServers: GoServer[] = [];

  constructor(generation: Generation, binary: string, home: string) {
    this.generation = generation;
    this.#binary = binary;
    this.#home = home;
    const { service, runs } = ourGreeter({
      name: `ts-for-${generation}`,
      version: "1.2.3",
      metadata: { region: "here" },
    });
    this.ours = service;
    this.runs = runs;
  }

  get version(): string {
    return versions[this.generation];
  }

  get ourName(): string {
    return `ts-for-${this.generation}`;
  }

  get ourAddress(): string {
    const { address } = this.ours.server;
    if (address === undefined) throw new Error("our service is not bound");
    return address;
  }

  /** A name or key that nothing else uses. */
  unique(prefix: string): string {
    return `${prefix}-${randomUUID().slice(0, 8)}`;
  }

  /** Any command of the peer. */
  start(command: string, ...parameters: string[]): GoProcess {
    return new GoProcess(this.#binary, [command, ...parameters], this.#home);
  }

  /** A command of the peer that reads what to do. */
  startWithInput(command: string, ...parameters: string[]): GoProcess {
    return new GoProcess(this.#binary, [command, ...parameters], this.#home, true);
  }

  async startServer(name: string, ...parameters: string[]): Promise<GoServer> {
    const process = this.start("server", "-name", name, ...parameters);
    const { address, id } = await process.line("ready", (line) => line["ready"] === true);
    return {
      name,
      address: address as string,
      id: id as string,
      process,
      [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
    };
  }

  startClient(via: Via, options: GoClientOptions): GoProcess {
    const { body, metadata, fresh, ...rest } = options;
    const address = "address" in options ? options.address : via === "address" ? this.ourAddress : undefined;
    const flags = {
      service: this.ourName,
      ...(address === undefined ? { await: "15s" } : {}),
      ...rest,
      address,
      body: typeof body === "string" ? body : JSON.stringify(body ?? {}),
    };
    const parameters = Object.entries(flags).flatMap(([name, value]) =>
      value === undefined ? [] : [`-${name}`, String(value)],
    );
    for (const [name, value] of Object.entries(metadata ?? {})) parameters.push("-metadata", `${name}=${value}`);
    if (fresh === true) parameters.push("-fresh");
    return this.start("client", ...parameters);
  }

  /** Run a Go client against ours and return its result. */
  async goClient(via: Via, options: GoClientOptions): Promise<Line> {
    await using client = this.startClient(via, options);
    return await client.line("a result", (line) => "ok" in line || "fatal" in line, 90_000);
  }
}

/** What a scenario gets. */
export interface Column {
  readonly pair: Pair;
  readonly generation: Generation;
  readonly via: Via;
  /** The Go server ours calls. */
  readonly go: GoServer;
  /** Options of our calls: the address, in the columns with addresses. */
  readonly to: CallOptions;
}
