import { describe, it } from "vitest";
import { mucpClient } from "../../src/client/mucp-client.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import { mucpServer } from "../../src/server/mucp-server.ts";
import type { Server } from "../../src/server/server.ts";
import { type ServerFixture, serverConformance } from "@micro/testing";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { announced } from "../support/announced.ts";
import { MemoryLogger } from "./support/memory-logger.ts";

async function fixture(transport: Transport, caller = transport): Promise<ServerFixture> {
  const logger = new MemoryLogger();
  const registry = memoryRegistry();
  const selector = cachedSelector({ registry, logger });
  const client = mucpClient({ transport: caller, selector, logger });
  const servers: Server[] = [];
  return {
    client,
    server(options) {
      const server = mucpServer({ name: "test", transport, logger, address: "127.0.0.1:0", ...options });
      servers.push(server);
      return server;
    },
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      for (const server of servers) await server.stop();
      await selector[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
      await caller[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

// The client that is told of no wire makes of each node what a Go server may be.
const goWire = {
  "calling a stream, and opening a stream of what is none, is told at once and runs nothing":
    "Go's wire does not say what the caller opened to a node of which nothing is known",
};

describe("over http", () => serverConformance({ describe, it }, () => fixture(httpTransport()), { skip: goWire }));
describe("over the fast wire", () =>
  serverConformance({ describe, it }, () => fixture(httpTransport(), announced(httpTransport({ direct: false })))));
describe("in one process", () => serverConformance({ describe, it }, () => fixture(announced(httpTransport()))));
describe("over memory", () => serverConformance({ describe, it }, () => fixture(memoryTransport())));
