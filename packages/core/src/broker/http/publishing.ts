/** How one message gets to all who are to have it: every broadcast subscription, and one of each queue group. */
import { MicroError } from "../../errors.ts";
import type { Logger } from "../../logger/logger.ts";
import type { LaneMessage } from "../lane.ts";
import { LocalSubscription } from "./local.ts";
import type { RemoteNode, Route } from "./node.ts";
import { id } from "./options.ts";
import { late, textOf } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";
import type { Peers } from "./peers.ts";
import type { PublishRun, PublishWait } from "./publish-run.ts";

/** A message in the forms it travels in. */
export interface Publication {
  readonly topic: string;
  /** @throws {MicroError} `too_large`. */
  readonly wire: Buffer;
  readonly local: LaneMessage;
}

/** Who there is, asked anew before each further attempt. */
export interface Recipients {
  routes(): Route;
  locals(): Iterable<LocalSubscription>;
  /** Traffic and registry disagree: look again. */
  refresh(): void;
}

type Member = LocalSubscription | RemoteNode;

/** How long a broadcast subscription that refuses connections is given before it counts as dead, if others have the message. */
const refusalPatienceMs = 1_000;
/** How long one member of a queue may keep a message waiting while there are others. */
const memberPatienceMs = 250;

/** What one recipient's share of the publish came to, if not well. */
interface Failure {
  readonly who: string;
  readonly reason: string;
  readonly code: "timeout" | "unavailable" | "too_large" | "bad_request";
  /** Counts only if nobody else has the message: a subscriber that died without leaving the registry. */
  readonly dead: boolean;
}

/**
 * Deliver to everybody.
 * @throws {MicroError} `unavailable` or `timeout`, naming who does not have the message and why; `too_large`;
 * `bad_request` if somebody cannot read it; what the run was ended with.
 */
export async function deliverToAll(
  publication: Publication,
  run: PublishRun,
  recipients: Recipients,
  peers: Peers,
  logger: Logger,
): Promise<void> {
  const delivery = new MessageDelivery(publication, run, recipients, peers);
  const shares = delivery.start();
  // Those in this process have it already, more often than not.
  if (shares.length === 0 && delivery.ejected.length === 0) return;
  let failures = (await Promise.all(shares)).filter((share) => share !== undefined);
  // Left alone while others are served; but somebody should have the message.
  if (delivery.accepted === 0 && delivery.ejected.length > 0) {
    const second = await Promise.all(delivery.ejected.map((node) => delivery.toNode(node)));
    failures = [...failures, ...second.filter((share) => share !== undefined)];
  }
  if (failures.length === 0) return;
  if (run.reason !== undefined) throw run.reason;
  const fatal = failures.filter(({ dead }) => !dead);
  if (fatal.length === 0 && delivery.accepted > 0) {
    logger.debug(`Broker [http] ${publication.topic}: not delivered to subscribers that are gone: ${listed(failures)}`);
    return;
  }
  const first = fatal[0] ?? failures[0]!;
  const code = (["too_large", "bad_request", "unavailable"] as const).find((each) =>
    failures.some((failure) => failure.code === each && (fatal.length === 0 || !failure.dead)),
  );
  throw new MicroError(
    `a message to ${publication.topic} was not delivered to ${listed(fatal.length > 0 ? fatal : failures)}`,
    {
      id,
      code: code ?? first.code,
    },
  );
}

function listed(failures: readonly Failure[]): string {
  return failures.map(({ who, reason }) => `${who}: ${reason}`).join("; ");
}

class MessageDelivery {
  readonly #publication: Publication;
  readonly #run: PublishRun;
  readonly #recipients: Recipients;
  readonly #peers: Peers;
  /** Recipients that have it. */
  accepted = 0;
  /** Known to be unreachable, and not tried. */
  readonly ejected: RemoteNode[] = [];

  constructor(publication: Publication, run: PublishRun, recipients: Recipients, peers: Peers) {
    this.#publication = publication;
    this.#run = run;
    this.#recipients = recipients;
    this.#peers = peers;
  }

  /** Begin with everybody at once; what is settled already is not in the list. */
  start(): Promise<Failure | undefined>[] {
    const shares: Promise<Failure | undefined>[] = [];
    const { broadcast, queues } = this.#recipients.routes();
    // The size is checked before anybody has the message.
    if (broadcast.length > 0 || queues.size > 0) void this.#publication.wire;
    const names = new Set(queues.keys());
    for (const local of this.#recipients.locals()) {
      if (local.queue !== undefined) names.add(local.queue);
      else {
        const share = this.#toLocal(local);
        if (share !== undefined) shares.push(share);
      }
    }
    for (const node of broadcast) {
      if (this.#peers.isEjected(node.id)) this.ejected.push(node);
      else shares.push(this.toNode(node));
    }
    for (const queue of names) shares.push(this.#toQueue(queue));
    return shares;
  }

  #toLocal(local: LocalSubscription): Promise<Failure | undefined> | undefined {
    const outcome = this.#take(local, this.#run.timeoutMs);
    if (!(outcome instanceof Promise)) {
      if (outcome.kind === "accepted") this.accepted++;
      return undefined;
    }
    return outcome.then((settled) => {
      if (settled.kind === "accepted") this.accepted++;
      return settled.kind === "accepted" || settled.kind === "gone"
        ? undefined
        : failed("a subscriber in this process", settled);
    });
  }

  async toNode(node: RemoteNode): Promise<Failure | undefined> {
    const peers = this.#peers;
    const who = `${node.id} at ${node.address}`;
    const begun = performance.now();
    let last: Outcome = late;
    for (let attempts = 0; ; attempts++) {
      const outcome = await peers.send(node, this.#publication.wire, this.#run);
      if (outcome.kind === "accepted") {
        this.accepted++;
        return undefined;
      }
      if (outcome.kind === "gone") {
        this.#recipients.refresh();
        return undefined;
      }
      if (outcome.kind !== "late") last = outcome;
      if (outcome.kind === "impossible" || this.#run.ended) return failed(who, last);
      if (outcome.kind === "refused" && this.accepted > 0 && performance.now() - begun >= refusalPatienceMs) {
        peers.eject(node.id);
        return failed(who, outcome);
      }
      // A connection that was closed while idle is the usual reason for the first failure.
      await this.#run.pause(attempts === 0 && outcome.kind === "failed" ? 0 : backoff(attempts));
      this.#recipients.refresh();
      // It has left meanwhile.
      if (!this.#recipients.routes().broadcast.some((each) => each.id === node.id)) return undefined;
      if (this.#run.ended) return failed(who, last);
    }
  }

  async #toQueue(queue: string): Promise<Failure | undefined> {
    const tried = new Map<string, Outcome>();
    const who = () =>
      `the queue ${queue} (${[...tried].map(([member, outcome]) => `${member}: ${textOf(outcome)}`).join(", ")})`;
    for (let rounds = 0; ; rounds++) {
      const members = this.#members(queue);
      // Nobody is there any more.
      if (members.length === 0) return undefined;
      for (const member of shuffled(members, (each) => this.#peers.isEjected(each.id))) {
        if (this.#run.ended) break;
        const outcome = await this.#toMember(member, members.length > 1);
        if (outcome.kind === "accepted") {
          this.accepted++;
          return undefined;
        }
        if (outcome.kind === "gone") continue;
        // The next messages go to others first.
        if (isItsFault(outcome)) this.#peers.eject(member.id);
        if (outcome.kind === "impossible") return failed(who(), outcome);
        // That time was up says less than what happened before.
        if (outcome.kind !== "late" || !tried.has(member.id)) tried.set(member.id, outcome);
      }
      if (!this.#run.ended) await this.#run.pause(backoff(rounds));
      if (this.#run.ended) {
        // Whoever has left meanwhile is no reason to complain.
        return this.#members(queue).length === 0 ? undefined : queueFailed(who(), tried);
      }
      this.#recipients.refresh();
    }
  }

  async #toMember(member: Member, hasOthers: boolean): Promise<Outcome> {
    const { remainingMs, timeoutMs } = this.#run;
    if (member instanceof LocalSubscription) return this.#take(member, hasOthers ? memberPatienceMs : remainingMs);
    // One of ours answers as soon as it has the message. Go's answer when the handler has ended: to send it to
    // another one meanwhile would have it handled twice.
    const patienceMs = hasOthers && member.pipelined ? Math.max(memberPatienceMs, timeoutMs / 3) : undefined;
    const outcome = await this.#peers.send(member, this.#publication.wire, this.#run, patienceMs);
    return outcome;
  }

  #members(queue: string): Member[] {
    const members: Member[] = [];
    for (const local of this.#recipients.locals()) if (local.queue === queue) members.push(local);
    for (const node of this.#recipients.routes().queues.get(queue) ?? [])
      if (!this.#peers.isGone(node.id)) members.push(node);
    return members;
  }

  #take(local: LocalSubscription, patienceMs: number): Outcome | Promise<Outcome> {
    const run = this.#run;
    let wait: PublishWait | undefined;
    const outcome = local.take(this.#publication.local, patienceMs, (cancel) => {
      wait = { cancel: () => cancel(late) };
      run.wait(wait);
    });
    if (!(outcome instanceof Promise)) return outcome;
    return outcome.finally(() => {
      if (wait !== undefined) run.forget(wait);
    });
  }
}

/** 20 ms doubling up to 500, less a random part of up to a half. */
function backoff(attempt: number): number {
  return Math.min(20 * 2 ** Math.min(attempt, 10), 500) * (1 - Math.random() / 2);
}

function failed(who: string, outcome: Outcome, mayBeDead = true): Failure {
  const { kind } = outcome;
  const code =
    kind === "impossible" ? outcome.code : kind === "refused" || kind === "failed" ? "unavailable" : "timeout";
  return { who, reason: textOf(outcome), code, dead: mayBeDead && kind === "refused" };
}

/** It is best left alone for a while. */
function isItsFault(outcome: Outcome): boolean {
  if (outcome.kind === "late") return !outcome.blocked;
  return outcome.kind !== "busy" && outcome.kind !== "impossible";
}

/** Of a queue nobody took the message: because of trouble, or because all were busy. */
function queueFailed(who: string, tried: ReadonlyMap<string, Outcome>): Failure {
  const outcomes = [...tried.values()];
  const worst = outcomes.find(({ kind }) => kind === "refused" || kind === "failed") ?? outcomes[0] ?? late;
  return failed(who, worst, false);
}

/** In random order, those that are to be avoided last. */
function shuffled<T>(list: readonly T[], isAvoided: (each: T) => boolean): readonly T[] {
  if (list.length === 1) return list;
  const copy = [...list];
  for (let index = copy.length - 1; index > 0; index--) {
    const other = Math.floor(Math.random() * (index + 1));
    [copy[index], copy[other]] = [copy[other]!, copy[index]!];
  }
  return copy.some(isAvoided) ? copy.toSorted((a, b) => Number(isAvoided(a)) - Number(isAvoided(b))) : copy;
}
