/** Messages on their way to subscriptions of this process, which take them when they have room: first come, first served. */
import { Metadata } from "../metadata.ts";
import type { Subscription } from "./subscription.ts";

/** A message inside the process: header and body are shared by all who get it. */
export interface LaneMessage {
  readonly topic: string;
  readonly header: Metadata;
  /** Must not change any more. */
  readonly body: Uint8Array;
}

/** A message that waits for one lane to have room. */
export interface LaneWaiter {
  readonly message: LaneMessage;
  /** Somebody took it, or nobody is left who would. */
  taken(): void;
}

/** Those of whom one gets each message: a single subscription, or the members of a queue group. */
export class Lane {
  readonly members = new Set<Subscription>();
  /** In the order they came. Whoever gives up takes itself out. */
  readonly waiting = new Set<LaneWaiter>();
  readonly #awaited = new Set<Subscription>();

  /** True if somebody took it. */
  offer(message: LaneMessage): boolean {
    return this.waiting.size === 0 && this.#give(message);
  }

  wait(waiter: LaneWaiter): void {
    this.waiting.add(waiter);
    this.#awaitRoom();
  }

  /** Somebody has room again, or is gone. */
  pump(): void {
    for (const waiter of this.waiting) {
      if (this.members.size > 0 && !this.#give(waiter.message)) {
        this.#awaitRoom();
        return;
      }
      this.waiting.delete(waiter);
      waiter.taken();
    }
  }

  #give({ topic, header, body }: LaneMessage): boolean {
    for (const member of this.members) {
      const { consumer } = member;
      if (consumer.ended || consumer.room() !== undefined) continue;
      if (this.members.size > 1) {
        // It was its turn: the next message is for the next one.
        this.members.delete(member);
        this.members.add(member);
      }
      void consumer.deliver({ topic, message: { header: new Metadata(header), body }, ack() {} });
      return true;
    }
    return false;
  }

  #awaitRoom(): void {
    for (const member of this.members) {
      const room = member.consumer.room();
      if (room === undefined || this.#awaited.has(member)) continue;
      this.#awaited.add(member);
      void this.#pumpAfter(room, member);
    }
  }

  async #pumpAfter(room: Promise<void>, member: Subscription): Promise<void> {
    await room;
    this.#awaited.delete(member);
    this.pump();
  }
}
