/** The pieces of which a port's limits are made. */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { type Arriving, ArrivalWatch } from "../../src/net/arrival.ts";
import { ByteAccount, type ByteHolder } from "../../src/net/byte-account.ts";
import { ByteBuffer } from "../../src/net/byte-buffer.ts";
import { PeerCount, peerKey } from "../../src/net/peer-count.ts";
import { portLimits } from "../../src/net/port-limits.ts";

class Holder implements ByteHolder {
  evicted = 0;
  readonly account: ByteAccount;
  held = 0;

  constructor(account: ByteAccount) {
    this.account = account;
  }

  keep(bytes: number): boolean {
    const kept = this.account.change(this, bytes);
    if (kept) this.held += bytes;
    return kept;
  }

  evict(): void {
    this.evicted++;
    this.account.change(this, -this.held);
    this.held = 0;
  }
}

const socket = (remoteAddress: string | undefined) =>
  Object.assign(new EventEmitter(), { remoteAddress }) as unknown as Socket;

const arriving = (one: Partial<Arriving>): Arriving => ({
  idle: false,
  inHead: false,
  part: 1,
  bodyBytes: 0,
  ...one,
});

describe("bytes that are kept for peers", () => {
  it("where they are too many, who has kept some for the longest time goes first", () => {
    const account = new ByteAccount(100);
    const [first, second, third] = [new Holder(account), new Holder(account), new Holder(account)];
    expect([first.keep(40), second.keep(40), third.keep(40)]).toEqual([true, true, true]);
    expect([first.evicted, second.evicted, third.evicted]).toEqual([1, 0, 0]);
    expect(account.bytes).toBe(80);
    // Who let go and came again is younger.
    first.keep(10);
    expect(third.keep(20)).toBe(true);
    expect([first.evicted, second.evicted, third.evicted]).toEqual([1, 1, 0]);
    expect(account.bytes).toBe(70);
  });

  it("who asks and is the oldest is told so, and nothing is counted", () => {
    const account = new ByteAccount(100);
    const [first, second] = [new Holder(account), new Holder(account)];
    first.keep(40);
    second.keep(60);
    expect(first.keep(1)).toBe(false);
    expect(account.bytes).toBe(100);
    expect(first.evicted).toBe(0);
  });

  it("or who keeps most of them, where that is what the account is made for", () => {
    const process = new ByteAccount(1_000, undefined, "largest");
    const account = new ByteAccount(100, process, "largest");
    const [small, large, next] = [new Holder(account), new Holder(account), new Holder(account)];
    small.keep(10);
    large.keep(60);
    expect(next.keep(40)).toBe(true);
    expect([small.evicted, large.evicted]).toEqual([0, 1]);
    // It would be the largest itself: it is told so, and nothing is counted.
    expect(next.keep(60)).toBe(false);
    expect([small.evicted, next.evicted, account.bytes, process.bytes]).toEqual([0, 0, 50, 50]);
    next.keep(40);
    expect(small.keep(15)).toBe(true);
    expect([next.evicted, account.bytes, account.holders]).toEqual([1, 25, 1]);
    // Who is alone keeps what one connection may.
    expect(small.keep(90)).toBe(true);
    expect(new Holder(account).keep(10)).toBe(true);
    expect([account.bytes, process.bytes]).toEqual([10, 10]);
  });

  it("who is alone keeps what one connection may", () => {
    const account = new ByteAccount(100);
    const only = new Holder(account);
    expect(only.keep(150)).toBe(true);
    expect(only.keep(50)).toBe(true);
    const next = new Holder(account);
    expect(next.keep(1)).toBe(true);
    expect(only.evicted).toBe(1);
  });

  it("ports share what the process may keep", () => {
    const all = new ByteAccount(100);
    const [one, other] = [new ByteAccount(80, all), new ByteAccount(80, all)];
    const [first, second] = [new Holder(one), new Holder(other)];
    first.keep(80);
    second.keep(50);
    expect(first.evicted).toBe(1);
    expect([one.bytes, other.bytes, all.bytes]).toEqual([0, 50, 50]);
    second.evict();
    expect([other.bytes, all.bytes, other.holders, all.holders]).toEqual([0, 0, 0, 0]);
  });

  it("one that does not let go is not asked for ever", () => {
    const account = new ByteAccount(10);
    account.change({ evict: () => {} }, 10);
    expect(new Holder(account).keep(1)).toBe(false);
  });
});

describe("a buffer", () => {
  it("tells of what it takes, before it does, and of what it gives away", () => {
    let kept = 0;
    let most = 0;
    const buffer = new ByteBuffer((delta) => {
      kept += delta;
      most = Math.max(most, kept);
    });
    for (let index = 0; index < 1_000; index++) buffer.append(new Uint8Array(100), 100_000);
    expect(buffer.length).toBe(100_000);
    // What is expected is not taken at once, and never more than that.
    expect(most).toBe(100_000);
    buffer.take();
    expect(kept).toBe(0);
  });

  it("keeps at most four times what has come, whatever is promised", () => {
    let kept = 0;
    const buffer = new ByteBuffer((delta) => (kept += delta));
    for (const length of [1, 10, 100, 1_000, 10_000]) {
      buffer.append(new Uint8Array(length), 4_000_000);
      expect(kept).toBeLessThanOrEqual(4 * buffer.length);
    }
  });

  it("keeps nothing of what it may not take", () => {
    const buffer = new ByteBuffer(() => {
      throw new Error("no");
    });
    expect(() => buffer.append(new Uint8Array(1))).toThrow("no");
    expect(buffer.length).toBe(0);
  });
});

describe("connections by peer", () => {
  it("one address takes its places and no more, and gives them back", () => {
    const count = new PeerCount(2);
    const [one, two] = [socket("10.0.0.1"), socket("10.0.0.1")];
    expect([count.admit(one), count.admit(two), count.admit(socket("10.0.0.1"))]).toEqual([true, true, false]);
    expect(count.admit(socket("10.0.0.2"))).toBe(true);
    one.emit("close");
    expect(count.admit(one)).toBe(true);
    one.emit("close");
    two.emit("close");
    expect(count.size).toBe(1);
  });

  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
    ["2001:db8:1:2::6", "2001:db8:1:2"],
    ["2001:db8::1", "2001:db8:0:0"],
    ["fe80::1%eth0", "fe80:0:0:0"],
    ["127.0.0.1", undefined],
    ["::1", undefined],
    ["::ffff:127.0.0.1", undefined],
    [undefined, undefined],
  ])("%s is known by %s", (address, key) => {
    expect(peerKey(address)).toBe(key);
  });
});

describe("a message that arrives", () => {
  const limits = { first: 10, stalled: 30, idle: 300, bytesPerTick: 100 };

  /** The tick at which it is late, sending `perTick` bytes of a body. */
  function lateAt(perTick: number, inHead = false, heldUntil = 0): number {
    const watch = new ArrivalWatch();
    for (let tick = 1; tick < 10_000; tick++) {
      if (tick > 1 && tick < heldUntil) watch.held();
      else if (watch.late(arriving({ inHead, bodyBytes: perTick * (tick - 1) }), tick, 0, limits)) return tick;
    }
    return Number.POSITIVE_INFINITY;
  }

  it("has to bring its headers in time, however busily they trickle", () => expect(lateAt(1e6, true)).toBe(32));
  it("has to bring its body at the rate asked for, over its whole length", () => {
    expect(lateAt(100)).toBe(Number.POSITIVE_INFINITY);
    expect(lateAt(99)).toBe(1 + 3_001);
    expect(lateAt(50)).toBe(1 + 61);
    expect(lateAt(0)).toBe(1 + 31);
  });
  it("is not late for the time in which nothing was read of it", () => {
    expect(lateAt(0, false, 20)).toBe(1 + 31 + 18);
  });
  it("is late when nothing comes", () => {
    const watch = new ArrivalWatch();
    expect(watch.late(arriving({ bodyBytes: 1e9 }), 1, 30, limits)).toBe(false);
    expect(watch.late(arriving({ bodyBytes: 1e9 }), 2, 31, limits)).toBe(true);
  });
  it("is measured anew with each message", () => {
    const watch = new ArrivalWatch();
    for (let tick = 1; tick < 200; tick++) {
      expect(watch.late(arriving({ part: Math.floor(tick / 20) }), tick, 0, limits)).toBe(false);
    }
  });
});

describe("limits of a port", () => {
  it("one address takes half, and two of the largest messages fit", () => {
    expect(portLimits({ maxConnections: 7 }, 4)).toMatchObject({ maxConnectionsPerAddress: 4 });
    expect(portLimits({}, 1024 ** 3).maxUnfinishedBytes).toBe(2 * 1024 ** 3);
  });
  it.each([{ maxConnections: 0 }, { minBytesPerSecond: -1 }, { maxUnsentBytes: Number.NaN }])(
    "%o is refused",
    (options) => {
      expect(() => portLimits(options, 4)).toThrow(TypeError);
    },
  );
});
