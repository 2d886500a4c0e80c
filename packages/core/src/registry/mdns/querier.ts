/**
 * Look-ups: one question to the group from a port of its own, answers collected for a while
 * (go-micro `util/mdns/client.go`).
 *
 * Answers are addressed to the asking port. Asking from 5353, which many share, would lose them to a neighbour.
 */
import type dgram from "node:dgram";
import { MicroError } from "../../errors.ts";
import { Budget } from "./budget.ts";
import type { Origin } from "./entries.ts";
import { MulticastSocket } from "./multicast-socket.ts";
import type { MdnsSettings } from "./options.ts";
import { decodeMessage, encodeMessage, flagResponse, PacketError, type Message } from "./packet.ts";
import { question } from "./records.ts";

/** When a question that nobody has answered is asked again, in milliseconds: a datagram may get lost. */
const repeatAfterMs = 25;

/**
 * Answers read, in bytes a second; reading them is spent from it, too. Who answers knows the port the question came
 * from, so that this holds what a large fleet says at once.
 */
const answerBudget = {
  each: { rate: 16 * 1024 * 1024, burst: 128 * 1024 * 1024 },
  all: { rate: 32 * 1024 * 1024, burst: 128 * 1024 * 1024 },
};
/** What a packet costs beside its bytes. */
export const packetBytes = 256;

export interface LookupOptions {
  readonly signal?: AbortSignal | undefined;
  /** Limit of the caller, in milliseconds; the collecting is never longer than the registry's own time. */
  readonly timeoutMs?: number | undefined;
}

interface Lookup {
  readonly name: string;
  readonly cancel: (error: MicroError) => void;
  readonly onAnswer: (message: Message, origin: Origin) => void;
}

/** The sockets of look-ups under way. */
interface Channel {
  readonly sockets: Promise<readonly MulticastSocket[]>;
  readonly lookups: Set<Lookup>;
}

export class Querier {
  readonly #settings: MdnsSettings;
  readonly #onIgnored: (reason: unknown, remote: dgram.RemoteInfo) => void;
  readonly #isLocal: (address: string) => boolean;
  #channel: Channel | undefined;
  /** What may be spent on answers to our own questions. */
  readonly answers = new Budget(answerBudget);

  constructor(
    settings: MdnsSettings,
    isLocal: (address: string) => boolean,
    onIgnored: (reason: unknown, remote: dgram.RemoteInfo) => void,
  ) {
    this.#settings = settings;
    this.#isLocal = isLocal;
    this.#onIgnored = onIgnored;
  }

  /** Nobody looks anything up. */
  get idle(): boolean {
    return this.#channel === undefined;
  }

  /**
   * Ask for `name` and hand every answer to `onAnswer`, which returns true if it found something new in it. Resolves
   * when the time is up, with what kind of end it was: `full`, or `cut` by the caller's limit.
   * @throws {MicroError} `aborted`; `unavailable` if no interface can be asked on.
   */
  async ask(
    name: string,
    onAnswer: (message: Message, origin: Origin) => boolean,
    options: LookupOptions,
  ): Promise<"full" | "cut"> {
    const { signal } = options;
    if (signal?.aborted === true) throw aborted(signal);
    const windowMs = this.#settings.timeoutMs;
    const limitAt = performance.now() + (options.timeoutMs ?? Infinity);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let answered = false;
    let quiet: NodeJS.Timeout | undefined;
    const channel = (this.#channel ??= this.#openChannel());
    const lookup: Lookup = {
      name,
      cancel: reject,
      onAnswer: (message, origin) => {
        if (!onAnswer(message, origin)) return;
        answered = true;
        if (this.#settings.quietMs === undefined) return;
        clearTimeout(quiet);
        quiet = setTimeout(resolve, this.#settings.quietMs);
      },
    };
    channel.lookups.add(lookup);
    const packet = encodeMessage(
      { id: Math.floor(Math.random() * 0x1_0000), questions: [question(name)] },
      { compress: false },
    );
    let end: NodeJS.Timeout | undefined;
    let repeat: NodeJS.Timeout | undefined;
    const onAbort = (): void => reject(aborted(signal));
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([promise, this.#send(channel, packet)]);
      // Time counts from the question. Opening sockets takes long on a busy machine.
      const remainingMs = limitAt - performance.now();
      end = setTimeout(() => afterReading(resolve), Math.max(0, Math.min(windowMs, remainingMs)));
      repeat = setTimeout(() => {
        if (!answered) this.#send(channel, packet).catch(reject);
      }, repeatAfterMs);
      await promise;
      return remainingMs < windowMs ? "cut" : "full";
    } finally {
      for (const timer of [end, repeat, quiet]) clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      channel.lookups.delete(lookup);
      if (channel.lookups.size === 0) await this.#closeChannel(channel);
    }
  }

  /** Hand a response to the look-ups it may concern; also one that came to the group. */
  deliver(message: Message, origin: Origin): void {
    if ((message.flags & flagResponse) === 0 || (message.flags & 0x780f) !== 0) return;
    // RFC 6762 responders do not repeat the question.
    const asked = message.questions[0]?.name;
    for (const lookup of this.#channel?.lookups ?? [])
      if (asked === undefined || asked === lookup.name) lookup.onAnswer(message, origin);
  }

  /** End all look-ups with code `closed` and wait for their sockets. */
  async close(): Promise<void> {
    const channel = this.#channel;
    if (channel === undefined) return;
    const error = new MicroError("the registry is closed", { id: "registry.mdns", code: "closed" });
    for (const lookup of channel.lookups) lookup.cancel(error);
    await this.#closeChannel(channel);
  }

  #openChannel(): Channel {
    const settings = this.#settings;
    const onMessage = (bytes: Buffer, remote: dgram.RemoteInfo): void => {
      try {
        if (!this.#isLocal(remote.address) || !this.answers.allows(remote.address)) return;
        this.answers.spend(remote.address, bytes.length + packetBytes);
        this.deliver(decodeMessage(bytes), { source: remote.address, proven: true });
      } catch (error) {
        if (error instanceof PacketError) this.#onIgnored(error, remote);
        else settings.logger?.error("mdns: an answer could not be handled", { error, remote: remote.address });
      }
    };
    const open = async (): Promise<MulticastSocket[]> => {
      const results = await Promise.allSettled(
        settings.families.map((family) =>
          MulticastSocket.open({
            settings,
            family,
            port: 0,
            onMessage,
            onError: (error) => settings.logger?.warn("mdns: a look-up lost its socket", { family, error }),
          }),
        ),
      );
      const sockets = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
      const failed = results.find((result) => result.status === "rejected");
      if (sockets.length === 0) throw unavailable("mdns cannot open a socket to ask", failed?.reason);
      return sockets;
    };
    return { sockets: open(), lookups: new Set() };
  }

  async #send(channel: Channel, packet: Uint8Array): Promise<void> {
    const sockets = await channel.sockets;
    const results = await Promise.all(sockets.map((socket) => socket.multicast(packet)));
    if (results.some(({ sent }) => sent > 0) || channel !== this.#channel) return;
    const { interfaces, loopbackOnly } = this.#settings;
    const asked = interfaces?.join(", ") ?? (loopbackOnly ? "the loopback interface" : "any interface");
    throw unavailable(`mdns cannot send on ${asked}`, results.find(({ error }) => error !== undefined)?.error);
  }

  async #closeChannel(channel: Channel): Promise<void> {
    if (this.#channel === channel) this.#channel = undefined;
    // Sockets that could not be opened were reported by the look-up.
    const sockets = await channel.sockets.catch(() => []);
    await Promise.all(sockets.map((socket) => socket.close()));
  }
}

/**
 * Call `done` when what lies in the sockets has been read: a timer that is late, because the process was busy, comes
 * before the packets that arrived in time.
 */
function afterReading(done: () => void): void {
  setImmediate(() => setImmediate(done));
}

function aborted(signal: AbortSignal | undefined): MicroError {
  return new MicroError("the look-up was cancelled by the caller", {
    id: "registry.mdns",
    code: "aborted",
    cause: signal?.reason,
  });
}

function unavailable(detail: string, cause: unknown): MicroError {
  return new MicroError(detail, { id: "registry.mdns", code: "unavailable", cause });
}
