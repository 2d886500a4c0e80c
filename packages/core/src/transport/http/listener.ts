/** A listening port of the http transport: it takes HTTP/1.1 and, unless told otherwise, the fast wire. */
import type { Socket } from "node:net";
import type { ByteAccount } from "../../net/byte-account.ts";
import { type AcceptedConnection, Port } from "../../net/port.ts";
import type { PortLimits } from "../../net/port-limits.ts";
import type { HttpTlsOptions } from "../../net/tls.ts";
import { refusingPreface } from "../fast/preface.ts";
import { FastServerConnection } from "../fast/server-connection.ts";
import type { ExchangeHandler, Listener } from "../transport.ts";
import { transportId } from "./dial.ts";
import { isTokenByte } from "./head.ts";
import type { MessageLimits } from "./message-parser.ts";
import { type AnswerPlain, PlainRequests } from "./plain-requests.ts";
import { type ConnectionOwner, ServerConnection } from "./server-connection.ts";

export interface HttpListenerOptions {
  readonly address: string;
  readonly limits: MessageLimits;
  readonly fastLimits: MessageLimits;
  readonly portLimits: PortLimits;
  readonly maxExchangesPerConnection: number;
  readonly maxRunningBytes: number;
  readonly secure: boolean;
  readonly tls: HttpTlsOptions | undefined;
  /** Take the fast wire as well. */
  readonly fast: boolean;
  readonly origins: readonly string[] | undefined;
  readonly plain: AnswerPlain | undefined;
}

const plainText = "this port speaks TLS, the request came in plain HTTP\n";
const plainRefusal =
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
  `Content-Length: ${plainText.length}\r\nConnection: close\r\n\r\n${plainText}`;

export class HttpListener implements Listener, ConnectionOwner {
  readonly limits: MessageLimits;
  readonly fastLimits: MessageLimits;
  readonly maxExchangesPerConnection: number;
  readonly maxRunningBytes: number;
  readonly handler: ExchangeHandler;
  readonly plain: PlainRequests;
  runningBytes = 0;
  #port!: Port;

  /** @throws {MicroError} */
  static async listen(handler: ExchangeHandler, options: HttpListenerOptions): Promise<HttpListener> {
    const listener = new HttpListener(handler, options);
    listener.#port = await Port.listen({
      address: options.address,
      limits: options.portLimits,
      secure: options.secure,
      tls: options.tls,
      accept: (socket, first) => listener.#accept(socket, options.fast && first[0] === 0),
      refusePlain: (first) => (isTokenByte(first) ? plainRefusal : first === 0 ? refusingPreface() : undefined),
      id: transportId,
    });
    return listener;
  }

  private constructor(handler: ExchangeHandler, options: HttpListenerOptions) {
    this.handler = handler;
    this.limits = options.limits;
    this.fastLimits = options.fastLimits;
    this.maxExchangesPerConnection = options.maxExchangesPerConnection;
    this.maxRunningBytes = options.maxRunningBytes;
    this.plain = new PlainRequests(options.origins, options.plain);
  }

  get address(): string {
    return this.#port.address;
  }

  get tick(): number {
    return this.#port.tick;
  }

  get unfinished(): ByteAccount {
    return this.#port.unfinished;
  }

  get unsent(): ByteAccount {
    return this.#port.unsent;
  }

  get kept(): ByteAccount {
    return this.#port.kept;
  }

  #accept(socket: Socket, fast: boolean): AcceptedConnection {
    return fast ? new FastServerConnection(this, socket) : new ServerConnection(this, socket);
  }

  gone(connection: AcceptedConnection): void {
    this.#port.gone(connection);
  }

  close(): Promise<void> {
    return this.#port.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#port[Symbol.asyncDispose]();
  }
}
