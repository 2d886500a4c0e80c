/** A subscription of this broker: who it is in the registry, and how messages get into it. */
import type { Registrar } from "../../registry/registrar.ts";
import { Lane } from "../lane.ts";
import type { LaneMessage, LaneWaiter } from "../lane.ts";
import type { Subscription } from "../subscription.ts";
import { accepted, busy, gone } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";

/** See the head of this file. */
export class LocalSubscription {
  readonly id: string;
  readonly topic: string;
  readonly queue: string | undefined;
  readonly subscription: Subscription;
  readonly #lane = new Lane();
  registrar: Registrar | undefined;

  constructor(id: string, subscription: Subscription) {
    this.id = id;
    this.topic = subscription.topic;
    this.queue = subscription.queue;
    this.subscription = subscription;
    this.#lane.members.add(subscription);
  }

  /** Take no more: what waits is told that the subscription is gone. */
  end(): void {
    this.#lane.members.clear();
    this.#lane.pump();
  }

  /**
   * Take a message: at once, or when there is room within `patienceMs`. Those that wait are served in their order.
   * @param onWait is given what ends the waiting early.
   */
  take(
    message: LaneMessage,
    patienceMs: number,
    onWait?: (cancel: (outcome: Outcome) => void) => void,
  ): Outcome | Promise<Outcome> {
    if (this.#lane.members.size === 0) return gone;
    if (this.#lane.offer(message)) return accepted;
    return new Promise((resolve) => {
      const settle = (outcome: Outcome): void => {
        clearTimeout(timer);
        this.#lane.waiting.delete(waiter);
        resolve(outcome);
      };
      const waiter: LaneWaiter = {
        message,
        taken: () => settle(this.#lane.members.size === 0 ? gone : accepted),
      };
      const timer = setTimeout(() => settle(busy), Math.min(patienceMs, 0x7fff_ffff));
      onWait?.(settle);
      this.#lane.wait(waiter);
    });
  }
}
