/** Sockets to a node, and what their failures mean. */
import { connect as netConnect, isIP, type Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import type { DialAddress } from "../../net/address.ts";
import { certificateReason } from "../../tls-check.ts";

/** Id of the transport's own errors; go-micro's client uses it as well (`client/rpc_client.go`). */
export const transportId = "go.micro.client.transport";

/** Where all plain sockets that were opened here read: one at a time, and a connection that says nothing keeps nothing. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);

/** True for a view of bytes that the next read overwrites. */
export function isReadBuffer(bytes: Uint8Array): boolean {
  return bytes.buffer === readBuffer.buffer;
}

/**
 * Start connecting. The socket's `readyEvent` tells when it can be used.
 * @param read takes what comes; the bytes are its own only until it returns.
 */
export function openSocket(
  target: DialAddress,
  tls: ConnectionOptions | undefined,
  read: (chunk: Buffer) => void,
): Socket {
  const { host, port, path } = target;
  if (tls === undefined)
    return netConnect({
      ...(path === undefined ? { host, port, noDelay: true } : { path }),
      onread: {
        buffer: readBuffer,
        callback(length) {
          read(readBuffer.subarray(0, length));
          return true;
        },
      },
    });
  // RFC 6066 allows no addresses as server name.
  const servername = tls.servername ?? (isIP(host) === 0 ? host : undefined);
  const socket = builtin.tls().connect({
    ...tls,
    host,
    ...(path === undefined ? { port } : { path }),
    ...(servername === undefined ? {} : { servername }),
  });
  socket.setNoDelay(true);
  socket.on("data", read);
  return socket;
}

/** The node could not be reached: nothing of a request was sent. */
export function dialError(address: string, cause: NodeJS.ErrnoException): MicroError {
  const text = tlsReason(cause) ?? cause.code ?? cause.message;
  const reason = text === "ECONNREFUSED" ? "connection refused" : text;
  return new MicroError(`connection to ${address} failed: ${reason}`, {
    id: transportId,
    code: cause.code === "ETIMEDOUT" ? "timeout" : "unavailable",
    cause,
    notRun: true,
  });
}

function tlsReason(cause: NodeJS.ErrnoException): string | undefined {
  const { code = "", message } = cause;
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG")
    return "the peer does not speak TLS";
  if (code === "ECONNRESET" && message.includes("TLS"))
    return "the peer closed the connection during the TLS handshake";
  if (code.startsWith("ERR_") || code.includes("CERT") || code.includes("SIGN") || code.includes("LEAF"))
    return certificateReason(code, message);
  return undefined;
}

export function dialTimeout(address: string, limitMs: number): MicroError {
  return new MicroError(`connection to ${address} failed: not established within ${limitMs} ms`, {
    id: transportId,
    code: "timeout",
    notRun: true,
  });
}

export function deadlineExceeded(notRun: boolean): MicroError {
  return new MicroError("context deadline exceeded", { id: "go.micro.client", code: "timeout", notRun });
}

export function cancelled(reason: unknown, notRun: boolean): MicroError {
  return new MicroError("cancelled by the caller", { id: "go.micro.client", code: "aborted", cause: reason, notRun });
}

export function transportClosed(notRun: boolean): MicroError {
  return new MicroError("the transport is closed", { id: transportId, code: "closed", notRun });
}
