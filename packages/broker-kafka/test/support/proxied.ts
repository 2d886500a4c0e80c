/** A proxy that clients do not find a way around: the server says that it is there. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { faultProxy, type FaultProxy } from "@micro/testing";
import type { TestServer } from "../../../../scripts/servers.mjs";

export async function proxyInFront(server: TestServer): Promise<FaultProxy> {
  const proxy = await faultProxy({ target: server.address });
  const file = join(server.folder, "server.properties");
  await server.stop();
  const properties = readFileSync(file, "utf8");
  writeFileSync(
    file,
    properties.replace(/^advertised\.listeners=.*$/m, `advertised.listeners=PLAINTEXT://${proxy.address}`),
  );
  await server.start();
  return proxy;
}
