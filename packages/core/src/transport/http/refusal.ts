/** Answers to requests that no handler sees. */
import { type MicroError, newError, stringify } from "../../errors.ts";
import type { Head } from "./head.ts";
import { headerValue } from "./head-writer.ts";

/** Id of the errors that a port gives. */
export const serverId = "go.micro.server";

const statusTexts: Readonly<Record<number, string>> = {
  200: "OK",
  204: "No Content",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  413: "Request Entity Too Large",
  415: "Unsupported Media Type",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

/** A whole message of HTTP's own, for those who do not read go-micro's headers. `lines` are complete. */
export function plainReply(status: number, contentType: string, body: string, lines = "", withoutBody = false): string {
  const length = Buffer.byteLength(body, "utf8");
  const text = statusTexts[status] ?? "";
  const head = `HTTP/1.1 ${status} ${text}\r\nContent-Type: ${headerValue(contentType)}\r\nContent-Length: ${length}\r\n${lines}\r\n`;
  // The text is written one byte a character.
  return withoutBody ? head : head + Buffer.from(body, "utf8").toString("latin1");
}

/** An error in HTTP's form: its status, and the error as JSON. */
export function plainError(status: number, detail: string, lines = "", withoutBody = false): string {
  return plainReply(
    status,
    "application/json",
    `${stringify(newError(serverId, detail, status))}\n`,
    lines,
    withoutBody,
  );
}

/** An error in go-micro's form, after which the connection ends: 200, and the error in a header. */
export function microRefusal(error: MicroError, head: Head | undefined, notRun: boolean): string {
  const value = headerValue(stringify(error));
  const id = head?.id ?? head?.stream;
  return `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${id === undefined ? "" : `Micro-Id: ${id}\r\n`}Micro-Error: ${value}\r\nX-Micro-Error: ${value}\r\n${
    notRun ? "Micro-Retry: not-run\r\n" : ""
  }Connection: close\r\n\r\n`;
}
