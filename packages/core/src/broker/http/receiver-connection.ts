/** One connection of a publisher: requests in, one answer each, in order. */
import type { Socket } from "node:net";
import { badRequest, internalServerError, MicroError, newError, stringify } from "../../errors.ts";
import { ArrivalWatch } from "../../net/arrival.ts";
import type { BrowserRules } from "../../net/browsers.ts";
import type { ByteAccount, ByteHolder } from "../../net/byte-account.ts";
import type { AcceptedConnection } from "../../net/port.ts";
import type { SweepLimits } from "../../net/port-limits.ts";
import { FramingError } from "../../transport/http/framing-error.ts";
import { oddity, type Head } from "../../transport/http/head.ts";
import { MessageParser } from "../../transport/http/message-parser.ts";
import type { BrokerMessage } from "../broker.ts";
import { decodeEnvelope } from "../envelope.ts";
import { busy, receiverLine } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";

/**
 * Hand a message to the subscription with the node id. An answer that has to be waited for holds the connection.
 * `message` is an error where it could not be read: then the subscription is only told. `looksAtAnswers` is false for
 * Go's publishers, which take any answer for success: what is refused is lost.
 */
export type Deliver = (
  nodeId: string,
  message: BrokerMessage | MicroError,
  bytes: Uint8Array,
  looksAtAnswers: boolean,
  onWait: (cancel: (outcome: Outcome) => void) => void,
) => Outcome | Promise<Outcome>;

/** What a connection needs of its port. */
export interface ReceiverOwner {
  readonly maxWireBytes: number;
  readonly deliver: Deliver;
  readonly browsers: BrowserRules;
  /** Counts up about once a second. */
  readonly tick: number;
  /** Bytes of messages that are not complete, or that no subscription has taken yet. */
  readonly unfinished: ByteAccount;
  gone(connection: AcceptedConnection): void;
}

// Ids, codes and texts of the errors are Go's.
const source = "go.micro.broker";
const ok = `HTTP/1.1 200 OK\r\n${receiverLine}Content-Length: 0\r\n\r\n`;
const maxHeaderBytes = 64 * 1024;
const tooMuch = "the broker keeps too many messages that are not complete";
const ignore = (): void => {};
const texts: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  413: "Request Entity Too Large",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

/** Answers that a publisher does not take, above which nothing more is read from it. */
const maxUnsentBytes = 64 * 1024;

/** Of a message that waits, beside its body. */
const heldOverheadBytes = 2 * 1024;

export class ReceiverConnection implements AcceptedConnection {
  readonly #owner: ReceiverOwner;
  readonly #socket: Socket;
  readonly #parser: MessageParser;
  readonly #watch = new ArrivalWatch();
  readonly #kept: ByteHolder = {
    evict: () => {
      this.#fail(new FramingError(503, tooMuch));
      this.#giveUp();
    },
  };
  /** Answers not written yet: those of one read are one write. */
  #answers = "";
  #closing = false;
  /** A message waits for its subscription to have room; nothing further is handed out. */
  #held = false;
  #heldBytes = 0;
  #cancel: ((outcome: Outcome) => void) | undefined;
  #blocked = false;
  #served = false;
  /** The request target seen last, and the id in it: a connection serves one subscription. */
  #target = "";
  #nodeId = "";
  #looksAtAnswers: boolean | undefined;
  #activeAt: number;

  constructor(owner: ReceiverOwner, socket: Socket) {
    this.#owner = owner;
    this.#socket = socket;
    this.#activeAt = owner.tick;
    this.#parser = new MessageParser(
      "request",
      { maxHeaderBytes, maxMessageBytes: owner.maxWireBytes },
      (head, body) => this.#request(head, body),
      (delta) => {
        if (!owner.unfinished.change(this.#kept, delta)) throw new FramingError(503, tooMuch);
      },
      (head) => this.#continue(head),
    );
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("drain", () => this.#mayWrite());
    // An error is always followed by "close".
    socket.on("error", () => {});
    socket.on("close", () => {
      // Go's publishers send and leave: what came whole from one waits on for its subscription, counted as before.
      if (this.#held && this.#looksAtAnswers === false) this.#endReading();
      else this.#stop();
      owner.gone(this);
    });
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  receive(chunk: Buffer): void {
    this.#read(chunk);
  }

  /** Close after what has been answered. */
  shutDown(): void {
    this.#stop();
    this.#flush();
    this.#socket.end();
    // Bytes still coming are read and dropped: unread ones would turn the close into a reset that eats the answers.
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#stop();
  }

  sweep(tick: number, limits: SweepLimits): void {
    const quiet = tick - this.#activeAt;
    if (this.#closing) {
      if (quiet > limits.first) this.destroy();
    } else if (this.#blocked) {
      // It does not take its answers.
      if (quiet > limits.stalled) this.destroy();
    } else if (this.#held) {
      // That a subscription has no room is not the publisher's fault.
      this.#activeAt = tick;
      this.#watch.held();
    } else if (!this.#served && this.#parser.idle) {
      if (quiet > limits.first) this.destroy();
    } else if (this.#watch.late(this.#parser, tick, quiet, limits))
      this.#fail(new FramingError(408, "the message did not arrive in time"));
    else if (quiet > limits.idle) this.shutDown();
  }

  /** Read no further, and keep nothing. */
  #stop(): void {
    this.#endReading();
    this.#giveUp();
  }

  #endReading(): void {
    this.#closing = true;
    this.#activeAt = this.#owner.tick;
    this.#parser.stop();
  }

  /** The message that waits is not waited for any more. */
  #giveUp(): void {
    this.#letGo();
    this.#cancel?.(busy);
    this.#cancel = undefined;
  }

  /** @param chunk undefined for what was held back. */
  #read(chunk: Buffer | undefined): void {
    if (this.#closing) return;
    this.#activeAt = this.#owner.tick;
    try {
      if (chunk === undefined) this.#parser.release();
      else this.#parser.push(chunk);
    } catch (error) {
      this.#fail(error instanceof FramingError ? error : new FramingError(400, String(error)));
      return;
    }
    this.#flush();
  }

  /** Say why, and close. */
  #fail({ status, message }: FramingError): void {
    if (this.#closing) return;
    this.#refuse(status, newError(source, message, status), true);
    this.shutDown();
  }

  /** @throws {FramingError} */
  #continue(head: Head): void {
    if (!/^100-continue$/i.test(head.headers().get("Expect") ?? ""))
      throw new FramingError(417, "an expectation other than 100-continue");
    this.#flush();
    this.#socket.write("HTTP/1.1 100 Continue\r\n\r\n");
  }

  /** The checks are Go's, in Go's order; what it does not check comes after. */
  #request(head: Head, body: Buffer): void {
    const { text } = head;
    this.#served = true;
    if (head.oddities !== 0 && this.#isBrowsers(head)) {
      this.#refuse(403, newError(source, "the request comes from a web page", 403), false);
      this.#after(head);
      return;
    }
    if (!text.startsWith("POST ")) {
      const error = badRequest(source, "Method not allowed");
      if (text.startsWith("HEAD ")) this.#answers += "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n";
      else this.#refuse(405, error, false);
      this.#after(head);
      return;
    }
    const nodeId = this.#readId(text);
    // A connection is one program's.
    const looks = (this.#looksAtAnswers ??= !text.includes("\r\nUser-Agent: Go-http-client/"));
    let message: BrokerMessage | MicroError;
    try {
      message = decodeEnvelope(body);
    } catch (error) {
      const reason = MicroError.is(error) ? error : internalServerError(source, String(error));
      void this.#owner.deliver(nodeId, reason, body, looks, ignore);
      this.#refuse(500, internalServerError(source, `Error parsing request body: ${reason.detail}`), false);
      this.#after(head);
      return;
    }
    if ((message.header.get("Micro-Topic") ?? "") === "") {
      void this.#owner.deliver(
        nodeId,
        new MicroError("the message has no Micro-Topic", { id: source, code: "bad_request" }),
        body,
        looks,
        ignore,
      );
      this.#refuse(500, internalServerError(source, "Topic not found"), false);
      this.#after(head);
      return;
    }
    const outcome = this.#owner.deliver(nodeId, message, body, looks, (cancel) => (this.#cancel = cancel));
    if (outcome instanceof Promise) void this.#answerLater(outcome, head, body.length);
    else {
      this.#answer(outcome);
      this.#after(head);
    }
  }

  async #answerLater(pending: Promise<Outcome>, head: Head, bytes: number): Promise<void> {
    this.#held = true;
    this.#parser.hold();
    this.#socket.pause();
    // It is kept until it is taken: as much as if it had not come whole, and what there is of it beside its text.
    const kept = bytes + heldOverheadBytes;
    if (this.#owner.unfinished.change(this.#kept, kept)) this.#heldBytes = kept;
    else this.#cancel?.(busy);
    const outcome = await pending;
    this.#held = false;
    this.#cancel = undefined;
    this.#letGo();
    if (this.#closing) return;
    this.#answer(outcome);
    this.#after(head);
    if (this.#blocked) {
      this.#flush();
      return;
    }
    this.#read(undefined);
    // Another request may have been waiting that cannot be taken now, either.
    if (!this.#isPaused()) this.#socket.resume();
  }

  #letGo(): void {
    if (this.#heldBytes === 0) return;
    const bytes = this.#heldBytes;
    this.#heldBytes = 0;
    this.#owner.unfinished.change(this.#kept, -bytes);
  }

  #isPaused(): boolean {
    return this.#held || this.#blocked;
  }

  /** A browser sent it for a page: events have no header of go-micro's by which to tell one that was passed on. */
  #isBrowsers(head: Head): boolean {
    if ((head.oddities & (oddity.origin | oddity.fetch)) === 0) return false;
    const headers = head.headers();
    const verdict = this.#owner.browsers.judge({
      method: head.requestMethod,
      origin: headers.get("Origin"),
      fetched: (head.oddities & oddity.fetch) !== 0,
      host: headers.get("Host"),
      marked: false,
    });
    return verdict !== "none";
  }

  #answer(outcome: Outcome): void {
    switch (outcome.kind) {
      case "accepted":
        this.#answers += ok;
        break;
      case "gone":
        // Go answers 200. Its publishers do not look at it; ours try elsewhere.
        this.#refuse(404, newError(source, "no such subscription", 404), false);
        break;
      case "impossible":
        this.#refuse(413, newError(source, outcome.reason, 413), false);
        break;
      default:
        this.#refuse(503, newError(source, "the subscriber has no room for further messages", 503), false);
    }
  }

  #after(head: Head): void {
    if (head.close && !this.#closing) this.shutDown();
  }

  #refuse(status: number, error: MicroError, closes: boolean): void {
    const body = `${stringify(error)}\n`;
    this.#answers += `HTTP/1.1 ${status} ${texts[status] ?? ""}\r\n${receiverLine}Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n${
      closes ? "Connection: close\r\n" : ""
    }Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  }

  #flush(): void {
    if (this.#answers === "") return;
    const answers = this.#answers;
    this.#answers = "";
    if (!this.#socket.writable || this.#socket.write(answers) || this.unsentBytes <= maxUnsentBytes) return;
    // A publisher that reads no answers is sent no more of them.
    if (this.#blocked || this.#closing) return;
    this.#blocked = true;
    this.#parser.hold();
    this.#socket.pause();
  }

  #mayWrite(): void {
    if (!this.#blocked || this.#closing) return;
    this.#blocked = false;
    if (this.#held) return;
    this.#read(undefined);
    if (!this.#isPaused()) this.#socket.resume();
  }

  #readId(text: string): string {
    const end = text.indexOf(" HTTP/", 5);
    if (end - 5 === this.#target.length && text.startsWith(this.#target, 5)) return this.#nodeId;
    const target = text.slice(5, end);
    const query = target.indexOf("?");
    this.#nodeId = query === -1 ? "" : (new URLSearchParams(target.slice(query + 1)).get("id") ?? "");
    this.#target = target;
    return this.#nodeId;
  }
}
