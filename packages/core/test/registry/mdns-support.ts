/** What the mdns tests share: a port of their own, raw sockets on loopback, and golden packets. */
import dgram from "node:dgram";
import type { LogFields, Logger, LogLevel } from "../../src/logger/logger.ts";
import type { Service } from "../../src/registry/registry.ts";

/** A UDP port nobody holds, so that suites do not hear each other. */
export async function freeUdpPort(): Promise<number> {
  const socket = dgram.createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}

export function greeter(id: string, address: string, part: Partial<Service> = {}): Service {
  return {
    name: "greeter",
    version: "latest",
    metadata: {},
    endpoints: [],
    nodes: [{ id, address, metadata: { protocol: "mucp" } }],
    ...part,
  };
}

/** Repeat until `check` passes or 5 seconds are over. */
export async function waitFor(check: () => void | Promise<void>, limitMs = 5_000): Promise<void> {
  const end = performance.now() + limitMs;
  for (;;)
    try {
      return await check();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
}

/** A plain UDP socket on loopback that keeps what it receives. */
export class RawSocket implements AsyncDisposable {
  readonly received: Buffer[] = [];
  /** Called for each packet, if set. */
  onPacket: ((bytes: Buffer, remotePort: number) => void) | undefined;
  readonly #socket: dgram.Socket;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
    socket.on("message", (packet, { port }) => {
      this.received.push(packet);
      this.onPacket?.(packet, port);
    });
  }

  /** `group`: listen to the group on that port; else bind any port. */
  static async open(group?: number): Promise<RawSocket> {
    const socket = dgram.createSocket({ type: "udp4", reuseAddr: group !== undefined });
    await new Promise<void>((resolve) => socket.bind(group ?? 0, resolve));
    if (group !== undefined) socket.addMembership("224.0.0.251", "127.0.0.1");
    socket.setMulticastInterface("127.0.0.1");
    return new RawSocket(socket);
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Send to the group on `port`. */
  multicast(packet: Uint8Array, port: number): Promise<void> {
    return this.send(packet, port, "224.0.0.251");
  }

  send(packet: Uint8Array, port: number, address = "127.0.0.1"): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#socket.send(packet, port, address, (error) => (error === null ? resolve() : reject(error))),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.close(resolve));
  }
}

/** A logger that keeps its records. */
export class RecordingLogger implements Logger {
  readonly name = "recording";
  readonly level: LogLevel = "trace";
  readonly records: { level: LogLevel; message: string; fields: LogFields | undefined }[] = [];

  enabled(): boolean {
    return true;
  }
  log(level: LogLevel, message: string, fields?: LogFields): void {
    this.records.push({ level, message, fields });
  }
  trace(message: string, fields?: LogFields): void {
    this.log("trace", message, fields);
  }
  debug(message: string, fields?: LogFields): void {
    this.log("debug", message, fields);
  }
  info(message: string, fields?: LogFields): void {
    this.log("info", message, fields);
  }
  warn(message: string, fields?: LogFields): void {
    this.log("warn", message, fields);
  }
  error(message: string, fields?: LogFields): void {
    this.log("error", message, fields);
  }
  child(): Logger {
    return this;
  }
}

/** Hexadecimal text with blanks to bytes. */
export function bytes(hex: string): Buffer {
  return Buffer.from(hex.replace(/\s+/g, ""), "hex");
}

const name = "07 67 72 65 65 74 65 72 05 6d 69 63 72 6f 00";

/** TXT of service `greeter`, version `latest`, metadata `protocol=mucp`; read by go-micro v2.9.1 and v5.30.0. */
export const goldenTxt =
  "789c0dcb310ac0200c05d0bbfcd913b877ec54e81e3414c126126317f1ee757df0262eb6af2446c463ccce86809bad17956d959cbb6f3a24372de21d5146ad01273b6572429c68a6ae49eb0eef480d6bfd43fa1ea0";

/** The same as Go compresses it. */
export const goldenGoTxt =
  "789c04c0310a02311085e1bbfc754e30bda595601fb20f09c44c98ccda2c7b77bf8b97e2d79b303e21a582c25bb1bb4f8c51533b293ce6b1bccfdcd83cc7283c95f5a859b18b159ede7c607ccfb6b8ef7f000000ffff43fa1ea0";

/** The question for service `greeter`, id 1234. */
export const goldenQuery = bytes(`12 34 00 00 00 01 00 00 00 00 00 00 ${name} 00 0c 00 01`);

/**
 * What go-micro answers to it for node `greeter-1` at 192.168.1.10:9090 on host `box`. `txt` is of 127 to 255
 * characters; compressors differ in it.
 */
export const goldenAnswerWith = (txt: string): Buffer =>
  bytes(`
  00 00 84 00 00 01 00 04 00 00 00 00
  ${name} 00 0c 00 01
  c0 0c 00 0c 00 01 00 00 00 78 00 0c 09 67 72 65 65 74 65 72 2d 31 c0 0c
  c0 2b 00 21 00 01 00 00 00 78 00 0b 00 0a 00 01 23 82 03 62 6f 78 00
  c0 49 00 01 00 01 00 00 00 78 00 04 c0 a8 01 0a
  c0 2b 00 10 00 01 00 00 00 78
  00 ${(txt.length + 1).toString(16)} ${txt.length.toString(16)} ${Buffer.from(txt).toString("hex")}`);
export const goldenAnswer = goldenAnswerWith(goldenTxt);

/** The question for the list of services, and its answer for `greeter`. */
const list = "09 5f 73 65 72 76 69 63 65 73 05 6d 69 63 72 6f 00 00 0c 00 01";
export const goldenListQuery = bytes(`12 34 00 00 00 01 00 00 00 00 00 00 ${list}`);
export const goldenListAnswer = bytes(`
  00 00 84 00 00 01 00 04 00 00 00 00 ${list}
  c0 0c 00 0c 00 01 00 00 00 78 00 0a 07 67 72 65 65 74 65 72 c0 0c
  c0 2d 00 21 00 01 00 00 00 78 00 0b 00 0a 00 01 27 0f 03 62 6f 78 00
  c0 49 00 01 00 01 00 00 00 78 00 04 00 00 00 00
  c0 2d 00 10 00 01 00 00 00 78 00 00`);
