/** What an exchange says of itself: whether its node was looked up, and whether it is a call or a stream. */
import { expect, it } from "vitest";
import { defaultSettings, encodePreface } from "../../src/transport/fast/preface.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import type { ExchangeRequest, Transport } from "../../src/transport/transport.ts";
import { fakeListener, frame, preface } from "../support/fast-peer.ts";

const wire = "micro/1";

function request(lookedUp: boolean | undefined): ExchangeRequest {
  const body = new Uint8Array(0);
  return { service: "shop", endpoint: "T.M", contentType: "x", metadata: undefined, body, lookedUp };
}

const kinds: Record<string, () => readonly [server: Transport, client: Transport]> = {
  "on the fast wire": () => [httpTransport(), httpTransport({ direct: false })],
  "without a socket": () => [httpTransport(), httpTransport()],
  "through memory": () => {
    const transport = memoryTransport();
    return [transport, transport];
  },
};

it.each(Object.keys(kinds))("a handler learns what was looked up, and calls from streams, %s", async (kind) => {
  const [server, client] = kinds[kind]!();
  const seen: string[] = [];
  const listener = await server.listen(
    (exchange) => {
      seen.push(`${exchange.opened} ${exchange.lookedUp === true}`);
      expect([...exchange.header].map(([name]) => name.toLowerCase()).filter((name) => name.includes("look"))).toEqual(
        [],
      );
      if (exchange.opened === "stream") exchange.stream().end();
      else exchange.reply({ contentType: "x", body: new Uint8Array(0) });
    },
    { address: "127.0.0.1:0" },
  );
  for (const lookedUp of [undefined, true, false, true]) {
    const options = { wire, deadline: performance.now() + 5_000 };
    await client.call(listener.address, request(lookedUp), options);
    expect(await (await client.open(listener.address, request(lookedUp), options)).receive()).toBe(undefined);
  }
  expect(seen).toEqual([false, true, false, true].flatMap((told) => [`call ${told}`, `stream ${told}`]));
  await client[Symbol.asyncDispose]();
  await listener[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** Flags of OPEN that a listener with these extensions gets. */
async function flagsSentTo(extensions: number | undefined): Promise<number> {
  const settings = { ...defaultSettings, extensions: extensions ?? 0 };
  let answer = encodePreface({ lowest: 1, highest: 1, chosen: 1, settings });
  if (extensions === undefined) {
    // As listeners answer that know four settings.
    answer = answer.subarray(0, answer.length - 5);
    answer[13] = 20;
  }
  let flags = -1;
  await using peer = await fakeListener((socket, received) => {
    if (received.length === preface.length) socket.write(answer);
    else {
      for (let at = preface.length; at < received.length; at += 8 + received.readUInt16BE(at))
        if (received[at + 2] === 2) flags = received[at + 3]!;
      if (flags !== -1) socket.write(frame(3, 2, 1, "well"));
    }
  });
  const client = httpTransport({ direct: false });
  await client.call(peer.address, request(true), { wire });
  await client[Symbol.asyncDispose]();
  return flags;
}

it("only listeners that understand it are told", async () => {
  expect(await flagsSentTo(undefined)).toBe(0);
  expect(await flagsSentTo(0)).toBe(0);
  expect(await flagsSentTo(2)).toBe(0);
  expect(await flagsSentTo(1)).toBe(16);
  expect(await flagsSentTo(0xffff_ffff)).toBe(16);
});

it.each(Object.keys(kinds))("a call may set the largest answer it takes, %s", async (kind) => {
  const [server, client] = kinds[kind]!();
  const listener = await server.listen(
    (exchange) => {
      const size = Number(exchange.header.get("X-Size") ?? 100_000);
      if (exchange.opened === "call") return exchange.reply({ contentType: "x", body: new Uint8Array(size) });
      const stream = exchange.stream();
      void stream.send({ contentType: "x", body: new Uint8Array(size) });
      return stream.end();
    },
    { address: "127.0.0.1:0" },
  );
  const limited = { wire, deadline: performance.now() + 5_000, maxMessageBytes: 99_999 };
  const enough = { ...limited, maxMessageBytes: 100_000 };
  await expect(client.call(listener.address, request(true), limited)).rejects.toMatchObject({ code: "too_large" });
  expect((await client.call(listener.address, request(true), enough)).body.length).toBe(100_000);
  const stream = await client.open(listener.address, request(true), limited);
  await expect(stream.receive()).rejects.toMatchObject({ code: "too_large" });
  const other = await client.open(listener.address, request(true), enough);
  expect((await other.receive())?.body.length).toBe(100_000);
  other.cancel();
  await client[Symbol.asyncDispose]();
  await listener[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});
