/** The NATS client, as far as this package uses it: another one is put in place here. */
import { connect, credsAuthenticator } from "@nats-io/transport-node";
import type { ConnectionOptions, Msg, NatsConnection } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import type { JetStreamClient } from "@nats-io/jetstream";
import { fromNats } from "./errors.ts";
import type { NatsSettings } from "./options.ts";

/** One connection. It is never mended: once `closed` settles, another one is made. */
export interface NatsLink {
  /** `host:port`. */
  readonly server: string;
  /** Servers of the cluster that this one knows of. */
  readonly cluster: readonly string[];
  /** Largest message, in bytes. */
  readonly maxPayload: number;
  /** Resolves with the reason when it is over. */
  readonly closed: Promise<unknown>;
  readonly jetstream: JetStreamClient;
  /** Told of a message the user may not publish, which the server drops without an answer. */
  onRefused: ((subject: string, error: Error) => void) | undefined;
  /** Told of everything else the server complains of while the connection goes on. */
  onError: ((error: Error) => void) | undefined;
  /** Written with everything else of this turn. Throws once closed. @param reply where an answer goes. */
  publish(subject: string, payload: Uint8Array, reply?: string): void;
  /** Resolves once the server has read everything published and subscribed so far. */
  flush(): Promise<void>;
  subscribe(subject: string, queue: string | undefined, receive: LinkReceiver): LinkSubscription;
  close(): Promise<void>;
}

/** A message as it came. */
export interface LinkMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Where an answer is expected. */
  readonly reply: string | undefined;
  /** A word of JetStream's in place of a message. `pending`: messages of the request it speaks of that will not come. */
  readonly status:
    | { readonly code: number; readonly description: string; readonly pending: number | undefined }
    | undefined;
}

/** What a subscription is told. */
export interface LinkReceiver {
  message(message: LinkMessage): void;
  /** The server refuses it. */
  refused(error: unknown): void;
}

export interface LinkSubscription {
  /** No more messages: resolves when those on their way are there. */
  drain(): Promise<void>;
}

/** Reads lazily: most messages have no headers. */
class ReceivedMessage implements LinkMessage {
  readonly #message: Msg;
  constructor(message: Msg) {
    this.#message = message;
  }
  get subject(): string {
    return this.#message.subject;
  }
  get data(): Uint8Array {
    return this.#message.data;
  }
  get reply(): string | undefined {
    return this.#message.reply;
  }
  get status(): LinkMessage["status"] {
    const { headers, data } = this.#message;
    if (headers === undefined || data.length > 0 || headers.code === 0) return undefined;
    const pending = headers.get("Nats-Pending-Messages");
    return {
      code: headers.code,
      description: headers.description,
      pending: /^\d{1,9}$/.test(pending) ? Number(pending) : undefined,
    };
  }
}

const connectTimeoutMs = 5_000;
/** Two unanswered pings end a connection: a frozen server is noticed within 15 s. */
const pingIntervalMs = 5_000;

/** Connect to one of the servers. @throws {MicroError} */
export async function openLink(settings: NatsSettings, servers: readonly string[]): Promise<NatsLink> {
  const options: ConnectionOptions = {
    servers: [...servers],
    // Ours to do: what should be subscribed is not the client's to remember.
    reconnect: false,
    timeout: connectTimeoutMs,
    pingInterval: pingIntervalMs,
    maxPingOut: 2,
    noAsyncTraces: true,
    ...(settings.name === undefined ? {} : { name: settings.name }),
    ...(settings.user === undefined ? {} : { user: settings.user, pass: settings.password ?? "" }),
    ...(settings.token === undefined ? {} : { token: settings.token }),
    ...(settings.credentials === undefined
      ? {}
      : { authenticator: credsAuthenticator(new TextEncoder().encode(settings.credentials)) }),
    ...(settings.tls === undefined ? {} : { tls: settings.tls }),
  };
  let connection: NatsConnection;
  try {
    connection = await connect(options);
  } catch (error) {
    throw fromNats(error, `connecting to ${servers.join(", ")}`);
  }
  return new Link(connection);
}

class Link implements NatsLink {
  readonly #connection: NatsConnection;
  readonly server: string;
  readonly cluster: readonly string[];
  readonly maxPayload: number;
  readonly closed: Promise<unknown>;
  onRefused: ((subject: string, error: Error) => void) | undefined;
  onError: ((error: Error) => void) | undefined;
  #lastError: unknown;
  #jetstream: JetStreamClient | undefined;

  constructor(connection: NatsConnection) {
    this.#connection = connection;
    this.server = connection.getServer();
    this.cluster = connection.info?.connect_urls ?? [];
    this.maxPayload = connection.info?.max_payload ?? 1024 * 1024;
    this.closed = connection.closed().then((error) => error ?? this.#lastError);
    void this.#watch();
  }

  get jetstream(): JetStreamClient {
    return (this.#jetstream ??= jetstream(this.#connection));
  }

  /** Errors of the server reach the client as status only. */
  async #watch(): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type !== "error") continue;
      const { error } = status;
      const violation = error as Error & { operation?: string; subject?: string };
      if (error.name !== "PermissionViolationError") {
        this.#lastError = error;
        this.onError?.(error);
      } else if (violation.operation === "publish") this.onRefused?.(violation.subject ?? "", error);
      // A subscription that is refused is told itself.
    }
  }

  publish(subject: string, payload: Uint8Array, reply?: string): void {
    if (reply === undefined) this.#connection.publish(subject, payload);
    else this.#connection.publish(subject, payload, { reply });
  }

  flush(): Promise<void> {
    return this.#connection.flush();
  }

  subscribe(subject: string, queue: string | undefined, receive: LinkReceiver): LinkSubscription {
    const subscription = this.#connection.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error: Error | null, message: Msg) => {
        if (error === null) receive.message(new ReceivedMessage(message));
        else receive.refused(error);
      },
    });
    return { drain: () => (subscription.isClosed() ? Promise.resolve() : subscription.drain()) };
  }

  close(): Promise<void> {
    return this.#connection.close();
  }
}
