/** Whether what a peer has begun to send comes fast enough. Looked at once a second: nothing is done for each message. */
import type { SweepLimits } from "./port-limits.ts";

/** What a parser tells of the message that is not complete. */
export interface Arriving {
  /** Nothing of a message is there. */
  readonly idle: boolean;
  /** A head is half there. */
  readonly inHead: boolean;
  /** Counts heads and bodies that did not come whole. */
  readonly part: number;
  /** Bytes of the unfinished body that are there. */
  readonly bodyBytes: number;
}

export class ArrivalWatch {
  #part = -1;
  #since = 0;

  /** Called at each tick at which this side did not read: the peer could not send. */
  held(): void {
    this.#since++;
  }

  /**
   * True if the message takes too long: nothing came for too long, its head is still not complete, or its body trickles.
   * @param quiet ticks since the last byte came.
   */
  late(arriving: Arriving, tick: number, quiet: number, limits: SweepLimits): boolean {
    if (arriving.idle) {
      this.#part = -1;
      return false;
    }
    if (arriving.part !== this.#part) {
      this.#part = arriving.part;
      this.#since = tick;
    }
    const ticks = tick - this.#since;
    if (quiet > limits.stalled || (arriving.inHead && ticks > limits.stalled)) return true;
    return ticks > limits.stalled && arriving.bodyBytes < limits.bytesPerTick * (ticks - limits.stalled);
  }
}
