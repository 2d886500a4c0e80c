/** The nodes this broker has published to: their connections, and what traffic has shown of them. */
import type { ConnectionOptions } from "node:tls";
import { MicroError } from "../../errors.ts";
import type { RemoteNode } from "./node.ts";
import { limitTimer, wasBlocked, type LimitTimer } from "../../stall.ts";
import { gone, late, lateHere } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";
import { Peer } from "./peer.ts";
import type { Letter } from "./peer.ts";
import type { PublishRun, PublishWait } from "./publish-run.ts";

const sweepMs = 5_000;
const shortestEjectionMs = 500;
const longestEjectionMs = 10_000;

interface Known {
  readonly peer: Peer;
  /** Unreachable: left alone until then, on the clock of `performance.now()`. */
  ejectedUntil: number;
  ejectionMs: number;
  /** It said that it is no subscription any more. Ids are never used again. */
  gone: boolean;
}

/** See the head of this file. */
export class Peers {
  readonly #tls: (node: RemoteNode) => ConnectionOptions | undefined;
  readonly #known = new Map<string, Known>();
  readonly #retired = new Set<Peer>();
  #sweeper: NodeJS.Timeout | undefined;
  #sweptAt = 0;

  /** @param tls settings of connections to a node; undefined for plain ones. */
  constructor(tls: (node: RemoteNode) => ConnectionOptions | undefined) {
    this.#tls = tls;
  }

  isGone(id: string): boolean {
    return this.#known.get(id)?.gone === true;
  }

  /** Unreachable a short while ago. */
  isEjected(id: string): boolean {
    const known = this.#known.get(id);
    return known !== undefined && known.ejectedUntil > performance.now();
  }

  /** It was unreachable, and is so again or still: then it is left alone for longer. Returns true the first time. */
  eject(id: string): boolean {
    const known = this.#known.get(id);
    if (known === undefined) return false;
    const first = known.ejectionMs === 0;
    known.ejectionMs = first ? shortestEjectionMs : Math.min(known.ejectionMs * 2, longestEjectionMs);
    known.ejectedUntil = performance.now() + known.ejectionMs;
    return first;
  }

  /**
   * Send a message to a node; no longer than the run lasts, and, if given, `patienceMs`. Resolves with `late` then: it
   * may have been received.
   */
  send(node: RemoteNode, body: Buffer, run: PublishRun, patienceMs?: number): Promise<Outcome> {
    if (run.ended) return Promise.resolve(run.blocked ? lateHere : late);
    const known = this.#peer(node);
    if (!("peer" in known)) return Promise.resolve(known);
    return new Promise((resolve) => {
      let timer: LimitTimer | undefined;
      const letter: Letter = {
        body,
        settle: (outcome) => {
          timer?.clear();
          run.forget(wait);
          this.#learn(known, outcome);
          resolve(outcome);
        },
      };
      const giveUp = (blocked: boolean): void => {
        known.peer.withdraw(letter);
        letter.settle(blocked ? lateHere : late);
      };
      const wait: PublishWait = { cancel: () => giveUp(run.blocked) };
      run.wait(wait);
      if (patienceMs !== undefined && patienceMs < run.remainingMs) timer = limitTimer(patienceMs, giveUp);
      known.peer.send(letter);
    });
  }

  /** What is registered now. Connections to other nodes end when what they carry is answered. */
  retain(isListed: (id: string) => boolean): void {
    for (const [id, { peer }] of this.#known)
      if (!isListed(id)) {
        this.#known.delete(id);
        this.#retire(peer);
      }
  }

  close(): void {
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
    for (const { peer } of this.#known.values()) peer.close();
    for (const peer of this.#retired) peer.close();
    this.#known.clear();
    this.#retired.clear();
  }

  #peer(node: RemoteNode): Known | Outcome {
    const known = this.#known.get(node.id);
    if (known?.gone === true) return gone;
    if (known !== undefined && isSame(known.peer.node, node)) return known;
    if (known !== undefined) this.#retire(known.peer);
    try {
      const fresh: Known = { peer: new Peer(node, this.#tls(node)), ejectedUntil: 0, ejectionMs: 0, gone: false };
      this.#known.set(node.id, fresh);
      if (this.#sweeper === undefined) {
        this.#sweptAt = performance.now();
        this.#sweeper = setInterval(() => this.#sweep(), sweepMs).unref();
      }
      return fresh;
    } catch (error) {
      // An address nobody can dial, or certificates that cannot be read.
      return { kind: "refused", reason: MicroError.is(error) ? error.detail : String(error) };
    }
  }

  #learn(known: Known, { kind }: Outcome): void {
    if (kind === "accepted" || kind === "busy") {
      known.ejectedUntil = 0;
      known.ejectionMs = 0;
    } else if (kind === "gone") known.gone = true;
  }

  #retire(peer: Peer): void {
    peer.retire();
    if (!peer.ended) this.#retired.add(peer);
  }

  #sweep(): void {
    const now = performance.now();
    const blocked = wasBlocked(this.#sweptAt, this.#sweptAt + sweepMs, now);
    this.#sweptAt = now;
    // What was said meanwhile is not read yet: the next sweep will see it.
    if (blocked) return;
    for (const { peer } of this.#known.values()) peer.sweep(now);
    for (const peer of this.#retired) {
      peer.sweep(now);
      if (peer.ended) this.#retired.delete(peer);
    }
  }
}

function isSame(a: RemoteNode, b: RemoteNode): boolean {
  return a === b || (a.address === b.address && a.secure === b.secure && a.pipelined === b.pipelined);
}
