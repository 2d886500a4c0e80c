import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { maxPackedBytes, MessageQueue, type Slab } from "../../src/transport/fast/message-queue.ts";

/** What the reader gets: a packed message by its place, another as it was pushed. */
interface Item {
  readonly body: Uint8Array;
  readonly text: string | undefined;
}

function unpack(slab: Slab, start: number, end: number): Item {
  return { body: slab.bytes.subarray(start, end), text: slab.text(start, end) };
}

function queue(taken: (Item | number)[] = []): MessageQueue<Item> {
  return new MessageQueue<Item>(unpack, (item) => taken.push(item));
}

const own = (text: string): Item => ({ body: Buffer.from(text), text: undefined });
const textOf = (item: Item | undefined): string | undefined =>
  item === undefined ? undefined : Buffer.from(item.body).toString();

function pack(to: MessageQueue<Item>, text: string): void {
  // In the middle of something larger, as frames are.
  const bytes = Buffer.from(`<${text}>`);
  to.pack(bytes, 1, bytes.length - 1);
}

describe("a message queue", () => {
  it("hands out what was packed and what was not in the order it came, and keeps what was handed out as it is", () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48_271) % 0x7fff_ffff) % below;
    const sent: string[] = [];
    const received: Item[] = [];
    const taken: (Item | number)[] = [];
    const messages = queue(taken);
    for (let round = 0; round < 20_000; round++) {
      if (random(5) < 3) {
        const text = `${random(9) === 0 ? "é" : "e"}${"x".repeat(random(random(20) === 0 ? maxPackedBytes - 20 : 60))}${round}`;
        sent.push(text);
        if (random(10) === 0) messages.push(own(text));
        else pack(messages, text);
      } else {
        const item = messages.poll();
        if (item !== undefined) received.push(item);
      }
    }
    for (let item = messages.poll(); item !== undefined; item = messages.poll()) received.push(item);
    // Only now: nothing written later may have changed them.
    expect(received.map(textOf)).toEqual(sent);
    for (const [index, item] of received.entries()) if (item.text !== undefined) expect(item.text).toBe(sent[index]);
    // Bursts become text together, all but those beside bytes that are not ASCII.
    expect(received.filter(({ text }) => text !== undefined).length).toBeGreaterThan(1000);
    expect(taken.map((item) => (typeof item === "number" ? item : item.body.length))).toEqual(
      received.map(({ body }) => body.length),
    );
  });

  it("takes empty messages", async () => {
    const messages = queue();
    for (let count = 0; count < 1000; count++) messages.pack(new Uint8Array(0), 0, 0);
    messages.end();
    let count = 0;
    while ((await messages.receive()) !== undefined) count++;
    expect(count).toBe(1000);
  });

  it("serves a reader that waits, one at a time", async () => {
    const messages = queue();
    const first = messages.receive();
    await expect(messages.receive()).rejects.toThrow("one at a time");
    expect(messages.poll()).toBeUndefined();
    pack(messages, "a");
    pack(messages, "b");
    expect(textOf(await first)).toBe("a");
    expect(textOf(messages.poll())).toBe("b");
    const second = messages.receive();
    messages.push(own("c"));
    expect(textOf(await second)).toBe("c");
    const end = messages.receive();
    messages.end();
    expect(await end).toBeUndefined();
  });

  it("reads what is left before an end or an error, takes nothing after it, and drops it when told to", async () => {
    const failure = new MicroError("gone", { id: "test", code: "closed" });
    const ended = queue();
    pack(ended, "a");
    ended.end();
    pack(ended, "late");
    ended.push(own("late"));
    expect(ended.closed).toBe(true);
    expect(textOf(await ended.receive())).toBe("a");
    expect(await ended.receive()).toBeUndefined();

    const failed = queue();
    pack(failed, "a");
    failed.fail(failure, false);
    expect(textOf(await failed.receive())).toBe("a");
    await expect(failed.receive()).rejects.toBe(failure);

    const dropped = queue();
    pack(dropped, "a");
    dropped.push(own("b"));
    dropped.end();
    dropped.fail(failure, true);
    expect(dropped.poll()).toBeUndefined();
    await expect(dropped.receive()).rejects.toBe(failure);

    const waiting = queue();
    const receiving = waiting.receive();
    waiting.fail(failure, true);
    await expect(receiving).rejects.toBe(failure);
  });
});
