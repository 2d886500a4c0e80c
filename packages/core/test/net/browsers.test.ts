/** Which requests a browser may have sent for a page that has no business here: by shape. A real browser is tried in `test/transport/browser.test.ts`. */
import { describe, expect, it } from "vitest";
import { BrowserRules, type BrowserRequest, type BrowserVerdict } from "../../src/net/browsers.ts";

const plain: BrowserRequest = {
  method: "POST",
  origin: undefined,
  fetched: false,
  host: "127.0.0.1:9090",
  marked: false,
};
const evil = "https://evil.example";

const shapes: readonly [what: string, request: Partial<BrowserRequest>, verdict: BrowserVerdict][] = [
  ["a Go client", { marked: true }, "none"],
  ["curl without go-micro's headers", {}, "none"],
  ["a form, a beacon, a fetch without a preflight", { origin: evil }, "refused"],
  ["the same from a page that hides where it is from", { origin: "null" }, "refused"],
  ["an empty Origin", { origin: "" }, "refused"],
  ["a fetch whose Origin a proxy took away", { fetched: true }, "refused"],
  ["a preflight", { method: "OPTIONS", origin: evil }, "refused"],
  [
    "a preflight with go-micro's headers, which no browser sends",
    { method: "OPTIONS", origin: evil, marked: true },
    "refused",
  ],
  ["PUT", { method: "PUT", origin: evil }, "refused"],
  ["a rebound name", { origin: "http://evil.example:9090", host: "evil.example:9090", marked: true }, "refused"],
  ["a rebound name on port 80", { origin: "http://evil.example", host: "evil.example", marked: true }, "refused"],
  [
    "a rebound name, in other letters",
    { origin: "http://EVIL.example:9090", host: "evil.Example:9090", marked: true },
    "refused",
  ],
  [
    "a rebound name over TLS",
    { origin: "https://evil.example:9090", host: "evil.example:9090", marked: true },
    "refused",
  ],
  ["a rebound name that hides its origin", { origin: "null", host: "evil.example:9090", marked: true }, "refused"],
  ["a page of this very address", { origin: "http://127.0.0.1:9090", marked: true }, "refused"],
  ["what a gateway passes on", { origin: evil, fetched: true, marked: true }, "none"],
  ["what a gateway passes on of a page at a file", { origin: "null", fetched: true, marked: true }, "none"],
  ["the same, to an IPv6 address", { origin: "null", host: "[fd00::1]:9090", marked: true }, "none"],
  ["what a gateway passes on of a GET", { fetched: true, marked: true }, "none"],
  ["a page that is named", { origin: "https://app.example" }, "allowed"],
  ["a page that is named, in other letters", { origin: "https://APP.example", marked: true }, "allowed"],
  [
    "a page that is named, on the host it was loaded from",
    { origin: "https://app.example", host: "app.example" },
    "allowed",
  ],
  ["its preflight", { method: "OPTIONS", origin: "https://app.example" }, "preflight"],
  ["its neighbour", { origin: "https://app.example.evil.example" }, "refused"],
  ["its other port", { origin: "https://app.example:444" }, "refused"],
  ["its other scheme", { origin: "http://app.example" }, "refused"],
];

describe("what a browser may have sent", () => {
  const rules = new BrowserRules(["https://app.example"]);
  it.each(shapes)("%s", (_what, request, verdict) => {
    expect(rules.judge({ ...plain, ...request })).toBe(verdict);
  });

  it("without names no page may call", () => {
    expect(new BrowserRules().judge({ ...plain, origin: "https://app.example" })).toBe("refused");
  });

  it.each([
    "*",
    "app.example",
    "https://app.example/",
    "https://app.example:443",
    "https://app.example/path",
    "null",
    "",
  ])("%j is no origin", (origin) => {
    expect(() => new BrowserRules([origin])).toThrow(TypeError);
  });
});
