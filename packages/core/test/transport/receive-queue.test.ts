/** How much a queue of messages that were cut out of larger buffers counts for. */
import { describe, expect, it } from "vitest";
import { ReceiveQueue } from "../../src/transport/receive-queue.ts";

const chunk = (): Buffer => Buffer.alloc(10_000);

describe("messages that are views", () => {
  it("count for all that they keep, once for those of one piece that follow each other", async () => {
    let bytes = 0;
    let room = 0;
    const queue = new ReceiveQueue<Buffer>({
      maxBytes: 30_000,
      onRoom: () => room++,
      onBytes: (delta) => (bytes += delta),
      views: true,
    });
    const [first, second] = [chunk(), chunk()];
    for (const [piece, start] of [
      [first, 0],
      [first, 10],
      [second, 0],
    ] as const)
      queue.push(piece.subarray(start, start + 10));
    expect([bytes, queue.full]).toEqual([20_000, false]);
    // One that comes back has to be counted again: nobody looks further back than to the one before.
    queue.push(first.subarray(20, 30));
    expect([bytes, queue.full]).toEqual([30_000, true]);
    const left: number[] = [];
    for (let index = 0; index < 4; index++) {
      expect((await queue.receive())?.length).toBe(10);
      left.push(bytes);
    }
    expect([left, room, queue.full]).toEqual([[30_000, 20_000, 10_000, 0], 1, false]);
    // Who waits already has it at once: nothing is kept.
    const waiting = queue.receive();
    queue.push(first.subarray(0, 1));
    expect([(await waiting)?.length, bytes]).toEqual([1, 0]);
    queue.push(second.subarray(0, 0));
    queue.push(second.subarray(0, 5));
    queue.fail(new Error("over"), true);
    expect(bytes).toBe(0);
  });

  it("count for their own length where they are none", () => {
    let bytes = 0;
    const queue = new ReceiveQueue<Buffer>({ onBytes: (delta) => (bytes += delta) });
    queue.push(chunk().subarray(0, 10));
    queue.push(chunk().subarray(0, 20));
    expect(bytes).toBe(30);
    expect([queue.poll()?.length, bytes, queue.poll()?.length, bytes]).toEqual([10, 20, 20, 0]);
  });
});
