/** A TCP proxy for tests that breaks connections in the ways networks do. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { checkOptionNames } from "@micro/core";

/** What happens to bytes going one way. */
export interface Faults {
  /** Bytes and ends are read and thrown away. Default: false. */
  readonly drop?: boolean | undefined;
  /** Half-open: nothing is forwarded, not even the end of a connection; it goes on where it stopped once healed. Default: false. */
  readonly stall?: boolean | undefined;
  /** Each portion of bytes is held back so long, in milliseconds. Default: 0. */
  readonly delayMs?: number | undefined;
  /** Slow down to this rate. Default: unlimited. */
  readonly bytesPerSecond?: number | undefined;
  /** Reset the connection after so many bytes have gone this way. Default: never. */
  readonly cutAfterBytes?: number | undefined;
}

export interface FaultProxyOptions {
  /** Where to forward to, `host:port`. */
  readonly target: string;
}

/** A running proxy. Disposing it closes the port and all connections. */
export interface FaultProxy extends AsyncDisposable {
  /** Where it listens, on 127.0.0.1. */
  readonly address: string;
  /** Connections open now. */
  readonly connections: number;
  /** Bytes forwarded so far, each way. */
  readonly forwarded: { readonly toTarget: number; readonly toClient: number };
  /** Set the faults of both directions, for open and new connections. What is left out is sound again. */
  set(faults: { readonly toTarget?: Faults | undefined; readonly toClient?: Faults | undefined }): void;
  /** No faults any more; what was stalled goes on. */
  heal(): void;
  /** Reset all open connections (RST). */
  cut(): void;
  /** Refuse new connections, or take them again at the same address. Open ones go on. */
  refuse(refuse: boolean): Promise<void>;
}

/**
 * Start a proxy in front of `target`. It listens on a free port of 127.0.0.1.
 * @throws {TypeError} for an option that does not exist, or if the target is not `host:port`.
 */
export async function faultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  checkOptionNames("faultProxy", options, { target: true });
  const match = /^\[?(.+?)\]?:(\d+)$/.exec(options.target);
  if (match === null) throw new TypeError(`faultProxy: target ${JSON.stringify(options.target)} is not host:port`);
  const proxy = new TcpFaultProxy(match[1] as string, Number(match[2]));
  await proxy.listen(0);
  return proxy;
}

type Direction = "toTarget" | "toClient";

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
  readonly pipes: readonly [Pipe, Pipe];
}

class TcpFaultProxy implements FaultProxy {
  readonly #host: string;
  readonly #port: number;
  #server: Server | undefined;
  #ownPort = 0;
  readonly #pairs = new Set<Pair>();
  readonly forwarded = { toTarget: 0, toClient: 0 };
  readonly faults: Record<Direction, Faults> = { toTarget: {}, toClient: {} };

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  get address(): string {
    return `127.0.0.1:${this.#ownPort}`;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  async listen(port: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
    await promise;
    this.#server = server;
    this.#ownPort = (server.address() as AddressInfo).port;
  }

  #accept(client: Socket): void {
    const target = connect({ host: this.#host, port: this.#port, allowHalfOpen: true, noDelay: true });
    client.setNoDelay(true);
    const pair: Pair = {
      client,
      target,
      pipes: [new Pipe(this, "toTarget", client, target), new Pipe(this, "toClient", target, client)],
    };
    this.#pairs.add(pair);
    // A target that refuses or resets is passed on as a reset, the nearest thing to it.
    client.on("error", () => target.resetAndDestroy());
    target.on("error", () => client.resetAndDestroy());
    for (const socket of [client, target])
      socket.on("close", () => {
        if (client.destroyed && target.destroyed) this.#pairs.delete(pair);
      });
  }

  set(faults: { readonly toTarget?: Faults | undefined; readonly toClient?: Faults | undefined }): void {
    this.faults.toTarget = faults.toTarget ?? {};
    this.faults.toClient = faults.toClient ?? {};
    for (const { pipes } of this.#pairs) for (const pipe of pipes) pipe.pump();
  }

  heal(): void {
    this.set({});
  }

  cut(): void {
    for (const { client, target } of this.#pairs) {
      client.resetAndDestroy();
      target.resetAndDestroy();
    }
  }

  async refuse(refuse: boolean): Promise<void> {
    if (!refuse) {
      if (this.#server === undefined) await this.listen(this.#ownPort);
      return;
    }
    this.#server?.close();
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.refuse(true);
    const closed = [...this.#pairs].flatMap(({ client, target }) => [client, target]).filter((one) => !one.closed);
    const gone = closed.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
    for (const { client, target, pipes } of this.#pairs) {
      for (const pipe of pipes) pipe.stop();
      client.destroy();
      target.destroy();
    }
    await Promise.all(gone);
  }
}

/** Bytes on their way; no bytes: the end. */
interface Waiting {
  readonly chunk: Buffer | undefined;
  readonly at: number;
}

/** One direction of one connection. */
class Pipe {
  readonly #proxy: TcpFaultProxy;
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #waiting: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sent = 0;
  /** When the rate allows the next bytes. */
  #nextAt = 0;

  constructor(proxy: TcpFaultProxy, direction: Direction, from: Socket, to: Socket) {
    this.#proxy = proxy;
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    from.on("data", (chunk: Buffer) => this.#take(chunk));
    from.on("end", () => this.#take(undefined));
    to.on("drain", () => this.pump());
    to.on("close", () => this.stop());
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#waiting.length = 0;
  }

  /** `undefined` is the end. */
  #take(chunk: Buffer | undefined): void {
    const { drop, delayMs } = this.#proxy.faults[this.#direction];
    if (drop === true) return;
    this.#waiting.push({ chunk, at: performance.now() + (delayMs ?? 0) });
    this.pump();
  }

  /** Forward what may go now. */
  pump(): void {
    clearTimeout(this.#timer);
    const { stall, bytesPerSecond, cutAfterBytes } = this.#proxy.faults[this.#direction];
    if (stall === true) return;
    while (this.#waiting.length > 0 && !this.#to.writableNeedDrain) {
      const first = this.#waiting[0] as Waiting;
      const wait = Math.max(first.at, bytesPerSecond === undefined ? 0 : this.#nextAt) - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.pump(), Math.ceil(wait));
        break;
      }
      this.#waiting.shift();
      if (first.chunk === undefined) {
        this.#to.end();
        continue;
      }
      // In a hundredth of a second's portions, so that a slow line is slow and not merely late.
      const portion = bytesPerSecond === undefined ? first.chunk.length : Math.max(1, Math.ceil(bytesPerSecond / 100));
      const left = (cutAfterBytes ?? Number.POSITIVE_INFINITY) - this.#sent;
      const now = first.chunk.subarray(0, Math.max(0, Math.min(portion, left)));
      if (now.length < first.chunk.length)
        this.#waiting.unshift({ chunk: first.chunk.subarray(now.length), at: first.at });
      this.#to.write(now);
      this.#sent += now.length;
      this.#proxy.forwarded[this.#direction] += now.length;
      if (bytesPerSecond !== undefined) this.#nextAt = performance.now() + (now.length / bytesPerSecond) * 1e3;
      if (now.length >= left) {
        this.#reset();
        return;
      }
    }
    this.#regulate();
  }

  #regulate(): void {
    if (this.#waiting.length > 16) this.#from.pause();
    else if (this.#from.isPaused()) this.#from.resume();
  }

  #reset(): void {
    this.stop();
    // What was written has to leave first: a reset throws unsent bytes away.
    this.#to.write("", () => {
      this.#to.resetAndDestroy();
      this.#from.resetAndDestroy();
    });
  }
}
