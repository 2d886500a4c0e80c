import { setImmediate as turn } from "node:timers/promises";
import { mucpServer } from "../../../src/server/mucp-server.ts";
import type { Server, ServerOptions } from "../../../src/server/server.ts";
import type { OutgoingMessage } from "../../../src/transport/transport.ts";
import { LoopTransport, type Peer, type PeerInit } from "./loop-transport.ts";
import { MemoryLogger } from "./memory-logger.ts";

export interface Served extends AsyncDisposable {
  readonly server: Server;
  readonly logger: MemoryLogger;
  readonly transport: LoopTransport;
  /** Start an exchange with a JSON body. */
  exchange(endpoint: string, body?: unknown, init?: PeerInit): Peer;
  /** One unary call. */
  call(endpoint: string, body?: unknown, init?: PeerInit): Promise<OutgoingMessage>;
}

/** A started server named `greeter` whose exchanges are made by hand. */
export async function served(
  register: (server: Server) => void,
  options: Partial<ServerOptions> = {},
): Promise<Served> {
  const transport = new LoopTransport();
  const logger = new MemoryLogger();
  const server = mucpServer({ name: "greeter", transport, logger, ...options });
  register(server);
  await server.start();
  const exchange = (endpoint: string, body?: unknown, init?: PeerInit): Peer =>
    transport.exchange({
      service: "greeter",
      endpoint,
      body: body === undefined ? new Uint8Array(0) : Buffer.from(JSON.stringify(body)),
      ...init,
    });
  return {
    server,
    logger,
    transport,
    exchange,
    call: (endpoint, body, init) => exchange(endpoint, body, init).answer,
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

/** Body of a message as JSON. */
export function json(message: OutgoingMessage | undefined): unknown {
  if (message === undefined) throw new Error("the stream has ended");
  if (message.error !== undefined) throw new Error(`an error came: ${message.error}`);
  return JSON.parse(Buffer.from(message.body).toString()) as unknown;
}

/** The error of a message as JSON. */
export function errorOf(message: OutgoingMessage | undefined): unknown {
  if (message?.error === undefined) throw new Error("no error came");
  return JSON.parse(message.error) as unknown;
}

/** Poll until `condition` holds, a few seconds at most. */
export async function waitFor(condition: () => boolean): Promise<void> {
  const limit = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > limit) throw new Error(`waited in vain for ${condition.toString()}`);
    await turn();
  }
}
