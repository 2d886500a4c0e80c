/** One connection of a publisher: requests in, one answer each, in order. */
import type { Socket } from "node:net";
import { badRequest, internalServerError, MicroError, newError, stringify } from "../../errors.ts";
import { FramingError } from "../../transport/http/framing-error.ts";
import type { Head } from "../../transport/http/head.ts";
import { MessageParser } from "../../transport/http/message-parser.ts";
import type { BrokerMessage } from "../broker.ts";
import { decodeEnvelope } from "../envelope.ts";
import { receiverLine } from "./outcome.ts";
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
) => Outcome | Promise<Outcome>;

// Ids, codes and texts of the errors are Go's.
const source = "go.micro.broker";
const ok = `HTTP/1.1 200 OK\r\n${receiverLine}Content-Length: 0\r\n\r\n`;
const maxHeaderBytes = 64 * 1024;
const texts: Readonly<Record<number, string>> = {
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  413: "Request Entity Too Large",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

export class ReceiverConnection {
  readonly #socket: Socket;
  readonly #parser: MessageParser;
  readonly #deliver: Deliver;
  /** Answers not written yet: those of one read are one write. */
  #answers = "";
  #closing = false;
  #held = false;
  /** The request target seen last, and the id in it: a connection serves one subscription. */
  #target = "";
  #nodeId = "";
  #looksAtAnswers: boolean | undefined;
  activeAt = performance.now();

  constructor(socket: Socket, maxMessageBytes: number, deliver: Deliver, onClose: () => void) {
    this.#socket = socket;
    this.#deliver = deliver;
    this.#parser = new MessageParser("request", { maxHeaderBytes, maxMessageBytes }, (head, body) =>
      this.#request(head, body),
    );
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    // An error is always followed by "close".
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#closing = true;
      this.#parser.stop();
      onClose();
    });
  }

  /** Between requests. */
  get idle(): boolean {
    return this.#parser.idle;
  }

  /** Waits for a subscription to have room: that is not the publisher's fault. */
  get busy(): boolean {
    return this.#held;
  }

  /** Close after what has been answered. */
  end(): void {
    this.#closing = true;
    this.#parser.stop();
    this.#flush();
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer | undefined): void {
    if (this.#closing) return;
    this.activeAt = performance.now();
    try {
      if (chunk === undefined) this.#parser.release();
      else this.#parser.push(chunk);
    } catch (error) {
      const status = error instanceof FramingError ? error.status : 400;
      const text = error instanceof Error ? error.message : String(error);
      this.#refuse(status, newError(source, text, status), true);
      this.end();
      return;
    }
    this.#flush();
  }

  /** The checks are Go's, in Go's order; what it does not check comes after. */
  #request(head: Head, body: Buffer): void {
    const { text } = head;
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
      void this.#deliver(nodeId, reason, body, looks);
      this.#refuse(500, internalServerError(source, `Error parsing request body: ${reason.detail}`), false);
      this.#after(head);
      return;
    }
    if ((message.header.get("Micro-Topic") ?? "") === "") {
      void this.#deliver(
        nodeId,
        new MicroError("the message has no Micro-Topic", { id: source, code: "bad_request" }),
        body,
        looks,
      );
      this.#refuse(500, internalServerError(source, "Topic not found"), false);
      this.#after(head);
      return;
    }
    const outcome = this.#deliver(nodeId, message, body, looks);
    if (outcome instanceof Promise) void this.#answerLater(outcome, head);
    else {
      this.#answer(outcome);
      this.#after(head);
    }
  }

  async #answerLater(pending: Promise<Outcome>, head: Head): Promise<void> {
    this.#held = true;
    this.#parser.hold();
    this.#socket.pause();
    const outcome = await pending;
    this.#held = false;
    this.activeAt = performance.now();
    if (this.#closing) return;
    this.#answer(outcome);
    this.#after(head);
    this.#receive(undefined);
    // Another request may have been waiting that cannot be taken now, either.
    if (!this.#isHeld()) this.#socket.resume();
  }

  #isHeld(): boolean {
    return this.#held;
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
      default:
        this.#refuse(503, newError(source, "the subscriber has no room for further messages", 503), false);
    }
  }

  #after(head: Head): void {
    if (head.close && !this.#closing) this.end();
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
    if (this.#socket.writable) this.#socket.write(answers);
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
