/** Where publishers deliver: an HTTP server that does what Go's does (`broker/http.go`, `ServeHTTP`). */
import { BrowserRules } from "../../net/browsers.ts";
import type { ByteAccount } from "../../net/byte-account.ts";
import { Port, type AcceptedConnection } from "../../net/port.ts";
import type { PortLimits } from "../../net/port-limits.ts";
import type { HttpTlsOptions } from "../../net/tls.ts";
import { id } from "./options.ts";
import { ReceiverConnection } from "./receiver-connection.ts";
import type { Deliver, ReceiverOwner } from "./receiver-connection.ts";

/** Settings of {@link Receiver}. */
export interface ReceiverOptions {
  readonly address: string;
  readonly secure: boolean;
  readonly tls: HttpTlsOptions | undefined;
  /** Largest request body. */
  readonly maxWireBytes: number;
  readonly limits: PortLimits;
  readonly deliver: Deliver;
}

/** A bound port and its connections. */
export class Receiver implements ReceiverOwner {
  readonly maxWireBytes: number;
  readonly deliver: Deliver;
  /** No page has business here. */
  readonly browsers = new BrowserRules();
  #port!: Port;

  /** @throws {MicroError} `unavailable` if the address cannot be bound, `bad_request` if it is none. */
  static async listen(options: ReceiverOptions): Promise<Receiver> {
    const receiver = new Receiver(options);
    receiver.#port = await Port.listen({
      address: options.address,
      limits: options.limits,
      secure: options.secure,
      tls: options.tls,
      accept: (socket) => new ReceiverConnection(receiver, socket),
      refusePlain: () => undefined,
      // Workers of a cluster would share the port otherwise, and get messages for each other's subscriptions.
      exclusive: true,
      who: "the broker",
      id,
    });
    return receiver;
  }

  private constructor(options: ReceiverOptions) {
    this.maxWireBytes = options.maxWireBytes;
    this.deliver = options.deliver;
  }

  /** The bound address. */
  get address(): string {
    return this.#port.address;
  }

  get tick(): number {
    return this.#port.tick;
  }

  get unfinished(): ByteAccount {
    return this.#port.unfinished;
  }

  gone(connection: AcceptedConnection): void {
    this.#port.gone(connection);
  }

  /** Close; what has been answered is still sent. */
  close(): Promise<void> {
    return this.#port[Symbol.asyncDispose]();
  }
}
