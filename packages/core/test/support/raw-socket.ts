/** A bare TCP client for tests that write bytes no client of ours would write. */
import { connect, type Socket } from "node:net";

export class RawSocket implements Disposable {
  readonly socket: Socket;
  /** All bytes received, as latin1. */
  received = "";
  /** The peer has closed its end, or reset the connection. */
  closed = false;
  failed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => (this.received += chunk.toString("latin1")));
    socket.on("end", () => (this.closed = true));
    socket.on("error", () => (this.failed = true));
    socket.on("close", () => (this.closed = true));
  }

  static async connect(address: string): Promise<RawSocket> {
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replaceAll(/[[\]]/g, "");
    const socket = connect({
      host: host === "::" ? "127.0.0.1" : host,
      port: Number(address.slice(colon + 1)),
      noDelay: true,
    });
    const raw = new RawSocket(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return raw;
  }

  write(bytes: string | Uint8Array): void {
    if (typeof bytes === "string") this.socket.write(bytes, "latin1");
    else this.socket.write(bytes);
  }

  /** Wait until what was received satisfies `condition`. */
  async until(condition: (received: string, raw: this) => boolean, what: string): Promise<void> {
    const end = performance.now() + 10_000;
    while (!condition(this.received, this)) {
      if (performance.now() > end)
        throw new Error(`waited 10 s in vain: ${what}; received ${JSON.stringify(this.received)}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export async function waitFor(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited 10 s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
