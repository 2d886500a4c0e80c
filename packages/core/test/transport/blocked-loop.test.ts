/** A process that was busy past a deadline: what had come by then is an answer, and its peer is not late. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { ExchangeOptions, Transport } from "../../src/transport/transport.ts";

const program = fileURLToPath(new URL("./programs/slow-echo.ts", import.meta.url));
let child: ChildProcess;
let address = "";

beforeAll(async () => {
  child = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(child.stdout!, "data")) as [Buffer];
  address = line.toString().trim();
});

afterAll(() => child.kill());

function request(endpoint: string) {
  return { service: "test", endpoint, contentType: "x", metadata: undefined, body: new Uint8Array(0) };
}

/** Nothing else runs here meanwhile; the listener is another process. */
function block(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

async function blocked<T>(work: (options: ExchangeOptions) => Promise<T>, wire: string | undefined): Promise<T> {
  const outcome = work({ wire, deadline: performance.now() + 300 });
  // Until the request has left.
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  block(600);
  return await outcome;
}

function caller(): Transport {
  return httpTransport({ direct: false });
}

describe.each([
  ["the fast wire", "micro/1"],
  ["HTTP", undefined],
])("over %s", (_name, wire) => {
  const soon = (): ExchangeOptions => ({ wire, deadline: performance.now() + 10_000 });

  it("a reply that lies in the socket is read before the call is late", async () => {
    const client = caller();
    await client.call(address, request("T.Call"), soon());
    const reply = await blocked((options) => client.call(address, request("T.Call"), options), wire);
    expect(Buffer.from(reply.body).toString()).toBe("there");
    await client[Symbol.asyncDispose]();
  });

  it("a stream whose end lies in the socket has ended", async () => {
    const client = caller();
    await client.call(address, request("T.Call"), soon());
    const received = await blocked(async (options) => {
      const stream = await client.open(address, request("T.Stream"), options);
      return [await stream.receive(), await stream.receive()];
    }, wire);
    expect(received.map((message) => message && Buffer.from(message.body).toString())).toEqual(["there", undefined]);
    await client[Symbol.asyncDispose]();
  });

  it("a reply that is not there is late all the same, and later calls are not", async () => {
    const client = caller();
    await client.call(address, request("T.Call"), soon());
    const late = client.call(address, request("T.Call"), { wire, deadline: performance.now() + 5 });
    await expect(late).rejects.toMatchObject({ code: "timeout", notRun: false });
    expect(Buffer.from((await client.call(address, request("T.Call"), soon())).body).toString()).toBe("there");
    await client[Symbol.asyncDispose]();
  });
});
