/** A peer that writes frames by hand, right ones and wrong ones. */
import { createServer, type Server, type Socket } from "node:net";
import { FrameReader } from "../../src/transport/fast/frames.ts";
import { defaultSettings, encodePreface, parsePreface } from "../../src/transport/fast/preface.ts";
import { RawSocket, waitFor } from "./raw-socket.ts";

export interface Seen {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, id: number, payload: Uint8Array | string | number[] = ""): Buffer {
  const body = Buffer.from(payload as string);
  const head = Buffer.alloc(8);
  head.writeUInt16BE(body.length, 0);
  head[2] = type;
  head[3] = flags;
  head.writeUInt32BE(id, 4);
  return Buffer.concat([head, body]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

export const preface = encodePreface({ lowest: 1, highest: 1, chosen: 0, settings: defaultSettings });

/** DEFINE of route 1: service `test`, this endpoint. */
export function defineRoute(id = 1, endpoint = "T.M"): Buffer {
  return frame(1, 0, 0, Buffer.concat([Buffer.from([0, id, 1]), text("test"), text(endpoint), text("x"), text("")]));
}

/** OPEN of a call on route 1. */
export function call(id: number, body = "hello"): Buffer {
  return frame(2, 0, id, Buffer.concat([Buffer.from([0, 1]), Buffer.from(body)]));
}

/** A client. */
export class FastPeer implements Disposable {
  readonly raw: RawSocket;
  readonly frames: Seen[] = [];

  private constructor(raw: RawSocket) {
    this.raw = raw;
  }

  /** Connect, and exchange prefaces unless told not to. */
  static async connect(address: string): Promise<FastPeer> {
    const peer = new FastPeer(await RawSocket.connect(address));
    peer.write(preface, defineRoute());
    let answer = Buffer.alloc(0);
    const reader = new FrameReader((type, flags, id, bytes, start, end) =>
      peer.frames.push({ type, flags, id, payload: Buffer.from(bytes.subarray(start, end)) }),
    );
    let negotiated = false;
    peer.raw.socket.on("data", (chunk: Buffer) => {
      if (negotiated) return reader.push(chunk);
      answer = Buffer.concat([answer, chunk]);
      const read = parsePreface(answer);
      if (read === undefined) return;
      negotiated = true;
      reader.push(answer.subarray(read.length));
    });
    await waitFor(() => negotiated, "the listener answers the preface");
    return peer;
  }

  write(...parts: Uint8Array[]): void {
    this.raw.write(Buffer.concat(parts));
  }

  async until(condition: (frame: Seen) => boolean, what: string): Promise<Seen> {
    await waitFor(() => this.frames.some(condition), `${what}, but ${JSON.stringify(this.frames)}`);
    return this.frames.find(condition) as Seen;
  }

  /** The connection is closed with this GOAWAY. */
  async refused(code: number, reason: RegExp): Promise<void> {
    const { payload } = await this.until(({ type }) => type === 9, "GOAWAY");
    const got = `${payload.readUInt16BE(4)} ${payload.subarray(6).toString()}`;
    if (payload.readUInt16BE(4) !== code || !reason.test(got)) throw new Error(`GOAWAY ${got}`);
    await waitFor(() => this.raw.closed, "the listener closes");
  }

  async reset(id: number, code: number): Promise<void> {
    const { payload } = await this.until((seen) => seen.type === 5 && seen.id === id, `RESET of ${id}`);
    if (payload.readUInt16BE(0) !== code) throw new Error(`reset with ${payload.readUInt16BE(0)}`);
  }

  /** Others on the same connection are served. */
  async serves(id: number): Promise<void> {
    this.write(call(id, "still there"));
    await this.until((seen) => seen.type === 3 && seen.id === id && (seen.flags & 2) !== 0, `the reply to ${id}`);
  }

  [Symbol.dispose](): void {
    this.raw[Symbol.dispose]();
  }
}

/** A listener that answers each connection with `answer`, called with what has come so far. */
export async function fakeListener(
  answer: (socket: Socket, received: Buffer) => void,
): Promise<{ readonly address: string; readonly connections: () => number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server: Server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    let received = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      answer(socket, received);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    address: `127.0.0.1:${port}`,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
