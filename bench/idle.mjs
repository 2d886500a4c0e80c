// node --expose-gc bench/idle.mjs: what a thousand idle connections of the fast wire keep, on each side. Needs the built packages.
import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { httpTransport } from "../packages/core/dist/index.js";

const connections = 1_000;

/** Settled: connections free what they do not need once they have been idle for a moment. */
async function memory() {
  for (let round = 0; round < 12; round++) {
    globalThis.gc();
    await sleep(700);
  }
  const { heapUsed, external, arrayBuffers, rss } = process.memoryUsage();
  return { heap: heapUsed, buffers: external + arrayBuffers, resident: rss };
}

async function serve() {
  const transport = httpTransport();
  const listener = await transport.listen(
    (exchange) => exchange.reply({ contentType: exchange.contentType, body: exchange.body }),
    { address: "127.0.0.1:0" },
  );
  process.on("message", async () => process.send(await memory()));
  process.send({ address: listener.address });
}

async function measure() {
  const server = fork(fileURLToPath(import.meta.url), ["server"], { execArgv: ["--expose-gc"] });
  try {
    const [{ address }] = await once(server, "message");
    const ask = async () => {
      const answer = once(server, "message");
      server.send("memory");
      return (await answer)[0];
    };
    const request = {
      service: "a",
      endpoint: "A.B",
      contentType: "text/plain",
      metadata: undefined,
      body: Buffer.from("x"),
    };
    const call = (transport) =>
      transport.call(address, request, { wire: "micro/1", deadline: performance.now() + 5_000 });
    await call(httpTransport());
    const before = { client: await memory(), server: await ask() };
    // Kept until the end: a transport has one connection to an address.
    const transports = Array.from({ length: connections }, () => httpTransport());
    await Promise.all(transports.map(call));
    const after = { client: await memory(), server: await ask() };
    for (const side of ["server", "client"])
      for (const kind of ["heap", "buffers", "resident"])
        console.log(
          `${side}, ${kind}: ${((after[side][kind] - before[side][kind]) / connections / 1_000).toFixed(1)} kB a connection`,
        );
  } finally {
    server.kill();
  }
}

if (process.argv[2] === "server") await serve();
else {
  await measure();
  process.exit(0);
}
