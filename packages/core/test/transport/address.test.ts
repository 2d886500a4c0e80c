import { describe, expect, it } from "vitest";
import { formatAddress, parseDialAddress, parseListenAddress } from "../../src/net/address.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";

describe("listen addresses", () => {
  it.each([
    ["", { host: "", firstPort: 0, lastPort: 0 }],
    [":0", { host: "", firstPort: 0, lastPort: 0 }],
    [":8080", { host: "", firstPort: 8080, lastPort: 8080 }],
    ["localhost:80", { host: "localhost", firstPort: 80, lastPort: 80 }],
    ["[::]:0", { host: "::", firstPort: 0, lastPort: 0 }],
    ["[fe80::1%eth0]:9", { host: "fe80::1%eth0", firstPort: 9, lastPort: 9 }],
    ["127.0.0.1:5000-6000", { host: "127.0.0.1", firstPort: 5000, lastPort: 6000 }],
  ])("%j", (address, expected) => {
    expect(parseListenAddress(address)).toEqual(expected);
  });

  it.each([
    "x",
    "::1:80",
    "[::1]",
    "a:b",
    "a:-1",
    "a:1-",
    "a:6-5",
    "a:65536",
    "a:1-65536",
    "http://a:1",
    "a b:1",
    "[x]:1",
  ])("%j is none", (address) => {
    expect(() => parseListenAddress(address)).toThrow(/is not an address/);
  });

  it("all interfaces are printed as Go prints them, and IPv4 callers reach them", async () => {
    await using transport = httpTransport();
    await using listener = await transport.listen((exchange) => exchange.reply({ body: Buffer.from(exchange.remote) }));
    expect(listener.address).toMatch(/^(?:\[::\]|0\.0\.0\.0):\d+$/);
    const port = listener.address.slice(listener.address.lastIndexOf(":"));
    for (const address of [`127.0.0.1${port}`, port, listener.address]) {
      const reply = await transport.call(
        address,
        { service: "s", endpoint: "A.B", contentType: "", metadata: undefined, body: Buffer.alloc(0) },
        { deadline: performance.now() + 5_000 },
      );
      expect(Buffer.from(reply.body).toString()).toMatch(/^(?:127\.0\.0\.1|\[::1\]):\d+$/);
    }
  });
});

it("dial addresses name one port", () => {
  expect(parseDialAddress("[::1]:80")).toEqual({ host: "::1", port: 80 });
  expect(parseDialAddress("0.0.0.0:80")).toEqual({ host: "127.0.0.1", port: 80 });
  expect(() => parseDialAddress("a:1-2")).toThrow(/is not an address/);
});

it("addresses are printed as Go prints them", () => {
  expect(formatAddress("::ffff:10.0.0.1", 80)).toBe("10.0.0.1:80");
  expect(formatAddress("::1", 80)).toBe("[::1]:80");
  expect(formatAddress(undefined, undefined)).toBe("");
});
