/** Acknowledges the messages of one channel, several with one word where they follow each other. */
import type { AmqpChannel } from "./amqp-client.ts";

/** Delivery tags count up from 1; the server takes "everything up to". */
export class Acknowledger {
  readonly #channel: AmqpChannel;
  readonly #lost: (count: number) => void;
  /** Handed out and not settled, in rising order. */
  readonly #unsettled = new Set<number>();
  /** To be acknowledged with the next word. */
  #ready: number[] = [];
  #immediate: NodeJS.Immediate | undefined;

  /** @param lost told how many acknowledgements came too late for the channel. */
  constructor(channel: AmqpChannel, lost: (count: number) => void) {
    this.#channel = channel;
    this.#lost = lost;
  }

  /** A message has come. */
  took(tag: number): void {
    this.#unsettled.add(tag);
  }

  /** False if the channel has ended: the server has taken the message back. */
  ack(tag: number): boolean {
    this.#unsettled.delete(tag);
    if (!this.#channel.isOpen) return false;
    this.#ready.push(tag);
    this.#immediate ??= setImmediate(() => this.flush());
    return true;
  }

  /** Give it back, or drop it; nothing is to be done on a channel that has ended. */
  reject(tag: number, requeue: boolean): void {
    this.#unsettled.delete(tag);
    if (this.#channel.isOpen) this.#channel.reject(tag, requeue);
  }

  /** Tell the server now. */
  flush(): void {
    clearImmediate(this.#immediate);
    this.#immediate = undefined;
    const ready = this.#ready;
    this.#ready = [];
    if (ready.length === 0) return;
    if (!this.#channel.isOpen) {
      this.#lost(ready.length);
      return;
    }
    const [lowest = Number.POSITIVE_INFINITY] = this.#unsettled;
    let upTo = 0;
    for (const tag of ready) if (tag < lowest && tag > upTo) upTo = tag;
    let late = 0;
    if (upTo > 0 && !this.#channel.ack(upTo, true)) late = ready.filter((tag) => tag <= upTo).length;
    for (const tag of ready) if (tag > upTo && !this.#channel.ack(tag, false)) late++;
    if (late > 0) this.#lost(late);
  }
}
