/** What is answered as HTTP, without a handler: probes, browsers, and what looks like neither them nor go-micro's callers. */
import { BrowserRules } from "../../net/browsers.ts";
import type { PlainReply, PlainRequest } from "../transport.ts";
import { decodeValue, type Head, oddity } from "./head.ts";
import { plainError, plainReply } from "./refusal.ts";

export type AnswerPlain = (request: PlainRequest) => PlainReply | undefined;

const allow = "Allow: POST\r\n";
const preflightSeconds = 600;

export class PlainRequests {
  readonly #rules: BrowserRules;
  readonly #answer: AnswerPlain | undefined;

  constructor(origins: readonly string[] | undefined, answer: AnswerPlain | undefined) {
    this.#rules = new BrowserRules(origins);
    this.#answer = answer;
  }

  /**
   * The answer to a request that is not for a handler, undefined to one that is. Only for requests with {@link Head.oddities},
   * or without a content type: all others are for handlers.
   */
  answer(head: Head): string | undefined {
    const method = (head.oddities & oddity.method) === 0 ? "POST" : head.requestMethod;
    // They run nothing, whoever sends them: browsers send them for any page, and to a name that was rebound even with go-micro's headers.
    if (method === "GET" || method === "HEAD") return this.#read(head, method);
    const { verdict, headers } = this.#judge(head, method);
    if (verdict === "refused")
      return plainError(403, "the request comes from a web page whose origin this service does not name");
    if (verdict === "preflight") return preflight(headers);
    if (head.isMicro) return undefined;
    if (method !== "POST") return plainError(405, `${method} is not served here: calls are POST requests`, allow);
    // Go's clients of old name no endpoint, and may name no type either.
    if (head.contentType === undefined && !/\r\nUser-Agent: Go-http-client\//.test(head.text))
      return plainError(415, "the request has no Content-Type");
    return undefined;
  }

  /** Header lines of the reply to a page that may call; empty for all others. */
  corsLines(head: Head): string {
    if ((head.oddities & oddity.origin) === 0) return "";
    const { verdict, headers } = this.#judge(head, "POST");
    return verdict === "allowed" ? `${corsLines(headers)}Access-Control-Expose-Headers: *\r\n` : "";
  }

  #judge(head: Head, method: string): { verdict: ReturnType<BrowserRules["judge"]>; headers: Map<string, string> } {
    if ((head.oddities & (oddity.origin | oddity.fetch)) === 0 && method !== "OPTIONS")
      return { verdict: "none", headers: new Map() };
    const headers = head.headers();
    const verdict = this.#rules.judge({
      method,
      origin: headers.get("Origin"),
      fetched: (head.oddities & oddity.fetch) !== 0,
      host: headers.get("Host"),
      marked: head.isMicro,
    });
    return { verdict, headers };
  }

  #read(head: Head, method: "GET" | "HEAD"): string {
    const withoutBody = method === "HEAD";
    const [path, query = ""] = splitOnce(decodeValue(head.requestTarget), "?");
    if (!head.isMicro) {
      let reply: PlainReply | undefined;
      try {
        reply = this.#answer?.({ method, path, query });
      } catch (error) {
        return plainError(500, error instanceof Error ? error.message : String(error), "", withoutBody);
      }
      if (reply !== undefined)
        return plainReply(reply.status, reply.contentType ?? "application/json", reply.body, "", withoutBody);
      if (path !== "/") return plainError(404, `there is nothing at ${path.slice(0, 200)}`, "", withoutBody);
    }
    return plainError(405, `${method} is not served here: calls are POST requests`, allow, withoutBody);
  }
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** Values are the request's own, which hold no line ends. */
function corsLines(headers: Map<string, string>): string {
  return `Access-Control-Allow-Origin: ${headers.get("Origin") ?? ""}\r\nVary: Origin\r\n`;
}

function preflight(headers: Map<string, string>): string {
  const asked = headers.get("Access-Control-Request-Headers");
  return `HTTP/1.1 204 No Content\r\n${corsLines(headers)}Access-Control-Allow-Methods: POST\r\n${
    asked === undefined ? "" : `Access-Control-Allow-Headers: ${asked}\r\n`
  }${
    headers.has("Access-Control-Request-Private-Network") ? "Access-Control-Allow-Private-Network: true\r\n" : ""
  }Access-Control-Max-Age: ${preflightSeconds}\r\n\r\n`;
}
