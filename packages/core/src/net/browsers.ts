/**
 * Which requests a browser may have sent for a page that has no business here.
 *
 * A page may make its visitor's browser send what it likes to any address the browser reaches, this machine included. Two shapes get through
 * without the browser asking first: a simple request, which cannot carry go-micro's headers, and any request to the page's own host, whose name
 * may since point to this address (DNS rebinding). Both carry `Origin`, unless they are `GET` or `HEAD`, which never run anything.
 *
 * A gateway that passes on what a browser sent it adds go-micro's headers and sends it to another host: that is served.
 */

/** What the check looks at. */
export interface BrowserRequest {
  readonly method: string;
  /** `Origin`, undefined where none came. */
  readonly origin: string | undefined;
  /** A header that begins with `Sec-Fetch-` came. */
  readonly fetched: boolean;
  readonly host: string | undefined;
  /** Any header came that a page cannot send without being asked about it: go-micro's own. */
  readonly marked: boolean;
}

/**
 * `none`: no browser's, or passed on by a gateway. `allowed`: of a page whose origin is named. `preflight`: a browser asks about such a page.
 * `refused`: runs nothing.
 */
export type BrowserVerdict = "none" | "allowed" | "preflight" | "refused";

export class BrowserRules {
  readonly #origins: ReadonlySet<string>;

  /** @throws {TypeError} for what is not an origin, such as `*`, or a URL with a path. */
  constructor(origins: readonly string[] = []) {
    this.#origins = new Set(origins.map(readOrigin));
  }

  judge({ method, origin, fetched, host, marked }: BrowserRequest): BrowserVerdict {
    if (origin !== undefined && this.#origins.has(origin.toLowerCase()))
      return method === "OPTIONS" ? "preflight" : "allowed";
    if (origin === undefined) return fetched && !marked ? "refused" : "none";
    if (!marked || method === "OPTIONS") return "refused";
    return isOwnHost(origin.toLowerCase(), (host ?? "").toLowerCase()) ? "refused" : "none";
  }
}

/** The page was loaded from the host that the request was sent to; `null` where it hides that. */
function isOwnHost(origin: string, host: string): boolean {
  // Only a name can come to mean another address.
  if (origin === "null") return !isFixed(host);
  return origin.replace(/^[a-z][a-z0-9+.-]*:\/\//, "") === host;
}

/** An address, or the name that browsers themselves take for this machine. */
function isFixed(host: string): boolean {
  const name = host.replace(/:\d*$/, "");
  return name === "" || name === "localhost" || name.startsWith("[") || /^\d{1,3}(?:\.\d{1,3}){3}$/.test(name);
}

function readOrigin(text: string): string {
  const origin = text.toLowerCase();
  if (!URL.canParse(origin) || new URL(origin).origin !== origin)
    throw new TypeError(
      `${JSON.stringify(text)} is not an origin: expected scheme, host, and a port that is not the scheme's own, as in https://app.example`,
    );
  return origin;
}
