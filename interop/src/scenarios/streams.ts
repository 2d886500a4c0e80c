/** Streams: in turn, fast, ended by either side, cut. */
import assert from "node:assert/strict";
import type { ClientStream } from "@micro/core";
import type { EchoMessage, SleepReport } from "../../gen/greeter.ts";
import { Greeter } from "../definition.ts";
import { GoCannot, type Outcome, type Scenario, failed, rejected, succeeded } from "../outcome.ts";
import type { Column } from "../pair.ts";
import { waitFor } from "../wait.ts";

type Chat = ClientStream<Partial<EchoMessage>, EchoMessage>;

function openChat({ pair, go, to }: Column, key = ""): Promise<Chat> {
  return pair.ours.client.stream(go.name, "Plain.Chat", { ...to, metadata: { Key: key }, streamIdleTimeoutMs: 10_000 });
}

async function inTurn(chat: Chat, messages: number): Promise<void> {
  for (let i = 0; i < messages; i++) {
    await chat.send({ text: `message ${i} ü` });
    assert.equal((await chat.receive())?.text, `message ${i} ü`);
  }
}

/** Messages that are sent one at a time, each after the answer to the one before. */
function turns(count: number, last?: string): { requests: AsyncIterable<{ text: string }>; answered: () => void } {
  let turn = Promise.withResolvers<void>();
  turn.resolve();
  return {
    answered: () => turn.resolve(),
    requests: (async function* () {
      for (let i = 0; i < count; i++) {
        await turn.promise;
        turn = Promise.withResolvers();
        yield { text: `message ${i} ü` };
      }
      await turn.promise;
      if (last !== undefined) yield { text: last };
    })(),
  };
}

/** Chat over protobuf with typed messages; returns how many answers came. */
async function typedChat({ pair, go, to }: Column, count: number, last?: string, idleMs = 10_000): Promise<number> {
  const { requests, answered } = turns(count, last);
  const greeter = pair.ours.client(Greeter, { service: go.name });
  let received = 0;
  for await (const { text } of greeter.chat(requests, { ...to, streamIdleTimeoutMs: idleMs })) {
    assert.equal(text, `message ${received} ü`);
    received++;
    answered();
    if (received === count && last === undefined) break;
  }
  return received;
}

function goRuns({ pair, go }: Column, key: string): Promise<SleepReport> {
  return pair.ours.client.call<SleepReport>(go.name, "Plain.Slept", { key }, { address: go.address });
}

const goEnded = (column: Column, key: string): Promise<SleepReport> =>
  waitFor(
    "Go's handler ends",
    () => goRuns(column, key),
    ({ ends }) => ends === 1,
  );
const ourEnded = ({ pair }: Column, key: string): Promise<SleepReport> =>
  waitFor(
    "our handler ends",
    () => pair.runs.of(key),
    ({ ends }) => ends === 1,
  );

/** Read a server stream to its end and check the order. */
async function readCount(items: AsyncIterable<{ n: number }>, count: number): Promise<void> {
  let received = 0;
  for await (const { n } of items) assert.equal(n, ++received);
  assert.equal(received, count);
}

async function openCount(
  { pair, go, to }: Column,
  endpoint: string,
  request: { to: number; pause?: number },
): Promise<ClientStream<object, { n: number }>> {
  const stream = await pair.ours.client.stream<object, { n: number }>(go.name, endpoint, {
    ...to,
    streamIdleTimeoutMs: 5_000,
  });
  await stream.send(request);
  return stream;
}

const lostEnd = "its protobuf codec sends neither errors nor the end of a stream";

/** v2's protobuf streams never end. */
async function neverEnds(read: Promise<unknown>): Promise<Outcome> {
  const error = await rejected(read);
  assert.equal(error.code, "timeout", `the stream ended: ${error.message}`);
  return new GoCannot(lostEnd);
}

export const streams: readonly Scenario[] = [
  {
    name: "bidirectional stream, 1000 messages in turn, JSON",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, { scenario: "chat", endpoint: "Plain.Chat", n: 1000 });
      assert.equal(succeeded(result)["received"], 1000);
    },
    async tsToGo(column) {
      await using chat = await openChat(column);
      await inTurn(chat, 1000);
      const large = "ü".repeat(512 * 1024);
      await chat.send({ text: large });
      assert.ok((await chat.receive())?.text === large, "a message of 1 MiB came back changed");
    },
  },
  {
    name: "bidirectional stream, 1000 messages in turn, protobuf",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, {
        scenario: "chat",
        endpoint: "Greeter.Chat",
        encoding: "proto",
        n: 1000,
      });
      assert.equal(succeeded(result)["received"], 1000);
    },
    async tsToGo(column) {
      assert.equal(await typedChat(column, 1000), 1000);
    },
  },
  {
    name: "the client ends a stream early, the handler sees it",
    async goToTs(column) {
      const { pair, via } = column;
      for (const [endpoint, encoding] of [
        ["Plain.Chat", "json"],
        ["Greeter.Chat", "proto"],
      ] as const) {
        const key = pair.unique("early");
        succeeded(await pair.goClient(via, { scenario: "chat", endpoint, encoding, n: 3, metadata: { Key: key } }));
        const runs = await ourEnded(column, key);
        assert.equal(runs.error, "", "a closed stream is an end, not a failure");
      }
    },
    async tsToGo(column) {
      const key = column.pair.unique("early");
      await using chat = await openChat(column, key);
      await inTurn(chat, 3);
      chat.closeSend();
      const runs = await goEnded(column, key);
      assert.equal(runs.error, "");
    },
  },
  {
    name: "a stream is cut, the handler sees it",
    async goToTs(column) {
      const { pair, via } = column;
      const key = pair.unique("cut");
      const options = { scenario: "chat", endpoint: "Plain.Chat", body: "cut", n: 3, metadata: { Key: key } } as const;
      succeeded(await pair.goClient(via, options));
      await ourEnded(column, key);
    },
    async tsToGo(column) {
      const key = column.pair.unique("cut");
      await using chat = await openChat(column, key);
      await inTurn(chat, 3);
      chat.cancel();
      assert.equal((await rejected(chat.receive())).code, "aborted");
      await goEnded(column, key);
    },
  },
  {
    name: "the handler ends a stream, JSON",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, { scenario: "chat", endpoint: "Plain.Chat", body: "bye", n: 3 });
      assert.equal(succeeded(result)["end"], "EOF");
    },
    async tsToGo(column) {
      await using chat = await openChat(column);
      await inTurn(chat, 3);
      await chat.send({ text: "bye" });
      assert.equal(await chat.receive(), undefined);
    },
  },
  {
    name: "the handler ends a stream, protobuf",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, {
        scenario: "chat",
        endpoint: "Greeter.Chat",
        encoding: "proto",
        body: "bye",
        n: 3,
      });
      assert.equal(succeeded(result)["end"], "EOF");
    },
    async tsToGo(column) {
      if (column.generation === "v2") return neverEnds(typedChat(column, 3, "bye", 700));
      assert.equal(await typedChat(column, 3, "bye"), 3);
    },
  },
  {
    name: "stream error, JSON",
    async goToTs({ pair, via }) {
      const error = failed(await pair.goClient(via, { scenario: "chat", endpoint: "Plain.Chat", body: "fail", n: 3 }));
      assert.deepEqual([error.id, error.code, error.detail], ["greeter", 409, "asked to fail"]);
    },
    async tsToGo(column) {
      await using chat = await openChat(column);
      await inTurn(chat, 3);
      await chat.send({ text: "fail" });
      const error = await rejected(chat.receive());
      assert.deepEqual([error.id, error.code, error.detail], ["greeter", "conflict", "asked to fail"]);
    },
  },
  {
    name: "stream error, protobuf",
    async goToTs({ pair, via }) {
      const options = { scenario: "chat", endpoint: "Greeter.Chat", encoding: "proto", body: "fail", n: 3 } as const;
      const error = failed(await pair.goClient(via, options));
      assert.deepEqual([error.id, error.code, error.detail], ["greeter", 409, "asked to fail"]);
    },
    async tsToGo(column) {
      if (column.generation === "v2") return neverEnds(typedChat(column, 3, "fail", 700));
      const error = await rejected(typedChat(column, 3, "fail"));
      assert.deepEqual([error.id, error.code, error.detail], ["greeter", "conflict", "asked to fail"]);
    },
  },
  {
    name: "server stream, 1000 items back to back, JSON",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, { scenario: "count", endpoint: "Plain.Count", body: { to: 1000 } });
      assert.equal(succeeded(result)["received"], 1000);
    },
    // Raw frames are the one way a Go handler can send fast, see the row below.
    async tsToGo(column) {
      await using stream = await openCount(column, "Plain.Burst", { to: 1000 });
      await readCount(stream, 1000);
    },
  },
  {
    name: "server stream, 1000 items back to back, protobuf",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, {
        scenario: "count",
        endpoint: "Greeter.Count",
        encoding: "proto",
        body: { to: 1000 },
      });
      assert.equal(succeeded(result)["received"], 1000);
    },
    async tsToGo({ pair, go, to }) {
      const counting = pair.ours
        .client(Greeter, { service: go.name })
        .count({ to: 1000 }, { ...to, streamIdleTimeoutMs: 2_000 });
      return garbled(counting);
    },
  },
  {
    name: "encoded items sent fast by Go's handler, JSON",
    async tsToGo(column) {
      await using stream = await openCount(column, "Plain.Count", { to: 1000 });
      return await garbled(stream);
    },
  },
  {
    name: "server stream with pauses, JSON",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, { scenario: "count", endpoint: "Plain.Count", body: { to: 20 } });
      assert.equal(succeeded(result)["received"], 20);
    },
    async tsToGo(column) {
      await soundOnce(async () => {
        await using stream = await openCount(column, "Plain.Count", paced);
        return await collect(stream);
      });
    },
  },
  {
    name: "server stream with pauses, protobuf",
    async tsToGo({ pair, go, to, generation }) {
      const greeter = pair.ours.client(Greeter, { service: go.name });
      let outcome: Outcome = undefined;
      await soundOnce(async () => {
        const counting = greeter.count(paced, { ...to, streamIdleTimeoutMs: 1_000 });
        if (generation !== "v2") return collect(counting);
        const received: number[] = [];
        outcome = await neverEnds(collect(counting, received));
        return received;
      });
      return outcome;
    },
  },
];

const paced = { to: 10, pause: 20 };

async function collect(items: AsyncIterable<{ n: number }>, received: number[] = []): Promise<number[]> {
  for await (const { n } of items) received.push(n);
  return received;
}

/**
 * Go's one buffer is safe only as long as its writer keeps pace with the pauses, which a busy machine may prevent: one
 * sound run of several proves our reading.
 */
async function soundOnce(read: () => Promise<number[]>): Promise<void> {
  const seen: string[] = [];
  for (let run = 0; run < 5; run++) {
    try {
      const numbers = (await read()).join(" ");
      if (numbers === "1 2 3 4 5 6 7 8 9 10") return;
      seen.push(numbers);
    } catch (error) {
      seen.push(error instanceof Error ? error.message : JSON.stringify(error));
    }
  }
  assert.fail(`never sound: ${seen.join("; ")}`);
}

/** Go encodes all items of a fast handler into one buffer: what arrives must be an error or visibly wrong, not a crash. */
async function garbled(items: AsyncIterable<{ n: number }>): Promise<Outcome> {
  const received: number[] = [];
  const read = async (): Promise<void> => {
    for await (const { n } of items) received.push(n);
  };
  let how: string;
  try {
    await read();
    how = "wrong items arrive";
  } catch (error) {
    const { code } = error as { code?: string };
    assert.ok(["codec", "timeout", "protocol"].includes(code ?? ""), `not a clear error: ${String(error)}`);
    how = `our error ${code}`;
  }
  const right = received.length === 1000 && received.every((n, index) => n === index + 1);
  assert.ok(!right, "Go's fast stream came whole");
  return new GoCannot(`it encodes items that are sent fast over each other: ${how}`);
}
