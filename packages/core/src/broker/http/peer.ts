/**
 * The connections to one subscription somewhere else. Each subscription has its own: one that is slow holds up nobody
 * else's messages.
 *
 * A subscription of ours takes requests without waiting for the answers, in order on one connection. Go's answer when
 * their handlers have ended, so that several connections carry one request each, as Go's client does.
 */
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { parseDialAddress } from "../../net/address.ts";
import type { DialAddress } from "../../net/address.ts";
import { dialError, openSocket } from "../../transport/http/dial.ts";
import type { Head } from "../../transport/http/head.ts";
import { MessageParser } from "../../transport/http/message-parser.ts";
import { limitTimer, type LimitTimer } from "../../stall.ts";
import { SocketWriter } from "../../transport/http/socket-writer.ts";
import type { RemoteNode } from "./node.ts";
import { foreignOutcome, gone, outcomeOf, receiverLine } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";

/** How a message that was taken is answered by a subscription of ours. */
const taken = `HTTP/1.1 200 OK\r\n${receiverLine}`;
const limits = { maxHeaderBytes: 64 * 1024, maxMessageBytes: 64 * 1024 };
/** Requests without an answer on one connection, and their bytes. */
const pipelineLength = 256;
const pipelineBytes = 4 * 1024 * 1024;
const maxPlainConnections = 16;
const dialTimeoutMs = 3_000;
const idleMs = 60_000;
/** A connection that answers nothing for so long is dead. A Go handler may take its time before the answer. */
const silentMs = { pipelined: 10_000, plain: 120_000 };

/** A message on its way. */
export interface Letter {
  readonly body: Buffer;
  settle(outcome: Outcome): void;
}

/** Connections to one node. */
export class Peer {
  readonly node: RemoteNode;
  readonly #tls: ConnectionOptions | undefined;
  readonly #target: DialAddress;
  readonly head: string;
  readonly #waiting = new Set<Letter>();
  readonly #connections = new Set<PeerConnection>();
  #retired = false;
  /** It has answered as what its record says it is. */
  proven = false;

  /** @throws {MicroError} `bad_request` if the node's address is none. */
  constructor(node: RemoteNode, tls: ConnectionOptions | undefined) {
    this.node = node;
    this.#tls = tls;
    this.#target = parseDialAddress(node.address);
    const host = this.#target.path === undefined ? node.address : "localhost";
    // Always this type, whatever the message's is (broker/http.go).
    this.head = `POST /?id=${encodeURIComponent(node.id)} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: `;
  }

  /** Send a letter, or keep it until there is a connection for it. */
  send(letter: Letter): void {
    if (this.#waiting.size === 0)
      for (const connection of this.#connections)
        if (connection.hasRoom) {
          connection.send(letter);
          return;
        }
    this.#waiting.add(letter);
    this.#connect();
  }

  /** Nobody waits for the letter any more. What was sent was sent. */
  withdraw(letter: Letter): void {
    this.#waiting.delete(letter);
  }

  /** The node is registered no longer: close once everything is answered. */
  retire(): void {
    this.#retired = true;
    this.sweep(performance.now());
  }

  get ended(): boolean {
    return this.#retired && this.#connections.size === 0 && this.#waiting.size === 0;
  }

  close(): void {
    this.#retired = true;
    for (const connection of this.#connections) connection.close("the broker is disconnected");
    for (const letter of this.#waiting) letter.settle({ kind: "failed", reason: "the broker is disconnected" });
    this.#waiting.clear();
  }

  /** Close what is idle, or dead. */
  sweep(now: number): void {
    const silent = this.node.pipelined ? silentMs.pipelined : silentMs.plain;
    for (const connection of this.#connections) {
      if (connection.unanswered > 0) {
        if (now - connection.heardAt > silent) connection.close("it did not answer");
      } else if (connection.open && (this.#retired || now - connection.heardAt > idleMs)) connection.close("idle");
    }
  }

  /** Why it could not be connected to. */
  dialFailure(error: NodeJS.ErrnoException): string {
    const { detail } = dialError(this.node.address, error);
    if (this.#tls === undefined || this.node.secure) return detail;
    return `${detail}; its record says that it speaks no TLS, and nothing is sent to it in clear`;
  }

  /** What an answer says. */
  outcomeOf(head: Head, body: Buffer): Outcome {
    if (this.node.pipelined) {
      if (!head.text.startsWith(taken) && !head.text.includes(`\r\n${receiverLine.trimEnd()}`))
        return foreignOutcome(head.status);
      this.proven = true;
    }
    return outcomeOf(head.status, body.toString("utf8", 0, 200).trim());
  }

  /** A connection has room, or there may be need of another one. */
  pump(connection: PeerConnection): void {
    for (const letter of this.#waiting) {
      if (!connection.hasRoom) break;
      this.#waiting.delete(letter);
      connection.send(letter);
    }
    if (this.#retired && connection.unanswered === 0) connection.close("idle");
  }

  lost(connection: PeerConnection, refusal: string | undefined): void {
    this.#connections.delete(connection);
    if (this.#waiting.size === 0) return;
    if (refusal === undefined) {
      this.#connect();
      return;
    }
    // One that works may take them yet.
    for (const other of this.#connections) if (other.open) return;
    for (const letter of this.#waiting) {
      this.#waiting.delete(letter);
      letter.settle({ kind: "refused", reason: refusal });
    }
  }

  #connect(): void {
    const most = this.node.pipelined ? 1 : Math.min(maxPlainConnections, this.#waiting.size + this.#busy());
    if (this.#connections.size >= most) return;
    this.#connections.add(new PeerConnection(this, this.#target, this.#tls));
  }

  #busy(): number {
    let busy = 0;
    for (const connection of this.#connections) if (connection.unanswered > 0) busy++;
    return busy;
  }
}

class PeerConnection {
  readonly #peer: Peer;
  readonly #socket: Socket;
  readonly #writer: SocketWriter;
  readonly #parser: MessageParser;
  /** Sent and not answered, in order; the first ones may be answered already. */
  #sent: Letter[] = [];
  #answered = 0;
  #unansweredBytes = 0;
  #timer: LimitTimer | undefined;
  open = false;
  #ended = false;
  heardAt = performance.now();

  constructor(peer: Peer, target: DialAddress, tls: ConnectionOptions | undefined) {
    this.#peer = peer;
    // Nothing of what is read outlives the reading.
    const socket = openSocket(target, tls, (chunk) => this.#receive(chunk));
    this.#socket = socket;
    this.#writer = new SocketWriter(socket);
    this.#parser = new MessageParser("response", limits, (head, body) => {
      // 1xx announces the answer, it is none.
      if (head.status < 200) return;
      this.#answer(peer.outcomeOf(head, body), head.close);
    });
    this.#dialFor(dialTimeoutMs);
    socket.once(tls === undefined ? "connect" : "secureConnect", () => {
      this.#timer?.clear();
      this.open = true;
      this.heardAt = performance.now();
      peer.pump(this);
      this.#keepAlive();
    });
    socket.on("error", (error: NodeJS.ErrnoException) =>
      this.#lost(this.open ? (error.code ?? error.message) : peer.dialFailure(error), !this.open),
    );
    socket.on("end", () => this.#lost("it closed the connection", false));
    socket.on("close", () => this.#lost("the connection was closed", !this.open));
  }

  #dialFor(limitMs: number): void {
    this.#timer = limitTimer(limitMs, (blocked) => {
      // A handshake takes several turns: it gets its time once more.
      if (blocked) this.#dialFor(limitMs);
      else this.#lost(`not connected within ${limitMs} ms`, true);
    });
  }

  get unanswered(): number {
    return this.#sent.length - this.#answered;
  }

  get hasRoom(): boolean {
    if (!this.open || this.#ended) return false;
    if (!this.#peer.node.pipelined) return this.unanswered === 0;
    return this.unanswered < pipelineLength && (this.#unansweredBytes < pipelineBytes || this.unanswered === 0);
  }

  /** Only while {@link hasRoom}. */
  send(letter: Letter): void {
    if (this.unanswered === 0) {
      this.heardAt = performance.now();
      this.#socket.ref();
    }
    this.#sent.push(letter);
    this.#unansweredBytes += letter.body.length;
    void this.#writer.gather(`${this.#peer.head}${letter.body.length}\r\n\r\n`, letter.body);
  }

  close(reason: string): void {
    this.#lost(reason, false);
  }

  #receive(chunk: Buffer): void {
    if (this.#ended) return;
    this.heardAt = performance.now();
    try {
      this.#parser.push(chunk);
    } catch (error) {
      // Who has yet to show that it is a subscription, and does not even speak HTTP, is none.
      if (this.#unproven) for (const letter of this.#takeUnanswered()) letter.settle(gone);
      this.#lost(error instanceof Error ? error.message : String(error), false);
      return;
    }
    if (this.#answered === this.#sent.length) {
      this.#sent.length = 0;
      this.#answered = 0;
    } else if (this.#answered > 1_024) {
      this.#sent = this.#sent.slice(this.#answered);
      this.#answered = 0;
    }
    if (!this.#ended) this.#peer.pump(this);
    this.#keepAlive();
  }

  #answer(outcome: Outcome, closes: boolean): void {
    const letter = this.#sent[this.#answered];
    if (letter === undefined) {
      this.#lost("it answered what was not asked", false);
      return;
    }
    this.#answered++;
    this.#unansweredBytes -= letter.body.length;
    letter.settle(outcome);
    if (closes) this.#lost("it closed the connection", false);
  }

  /** Only somebody who waits for an answer keeps the process alive. */
  #keepAlive(): void {
    if (this.unanswered === 0 && !this.#ended) this.#socket.unref();
  }

  #lost(reason: string, refused: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer?.clear();
    this.#socket.destroy();
    const unanswered = this.#takeUnanswered();
    this.#peer.lost(this, refused ? reason : undefined);
    // Somebody who takes connections and says nothing is most likely not whom the record means.
    const kind = this.#unproven ? "refused" : "failed";
    for (const letter of unanswered) letter.settle({ kind, reason });
  }

  /** A record promises a subscription of ours, and nothing has shown yet that there is one. */
  get #unproven(): boolean {
    return this.#peer.node.pipelined && !this.#peer.proven;
  }

  #takeUnanswered(): Letter[] {
    const unanswered = this.#sent.slice(this.#answered);
    this.#sent = [];
    this.#answered = 0;
    return unanswered;
  }
}
