import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import type { NetworkInterfaceInfo } from "node:os";
import { describe, expect, it } from "vitest";
import { advertiseAddress, reachableHost, joinAddress, splitAddress } from "../../src/registry/address.ts";

const info = (address: string, internal: boolean): NetworkInterfaceInfo => ({
  address,
  internal,
  netmask: "",
  mac: "",
  cidr: null,
  ...(address.includes(":") ? { family: "IPv6", scopeid: 0 } : { family: "IPv4" }),
});

function interfaces(all: { [name: string]: readonly string[] }): { [name: string]: NetworkInterfaceInfo[] } {
  return Object.fromEntries(
    Object.entries(all).map(([name, list]) => [name, list.map((address) => info(address, name === "lo"))]),
  );
}

describe("the advertised address", () => {
  const lan = interfaces({ lo: ["127.0.0.1", "::1"], eth0: ["8.8.8.8", "192.168.1.5"], eth1: ["10.0.0.1"] });

  it("keeps a host that means one address, and names", () => {
    for (const address of ["10.1.1.1:80", "[fd00::1]:80", "example.org:80", "127.0.0.1:80", "queue-name", "_INBOX.x"])
      expect(advertiseAddress(address, lan)).toBe(address);
  });

  it("replaces a host that means every address by the first private one", () => {
    for (const address of ["[::]:8080", "0.0.0.0:8080", ":8080", "[0:0::0]:8080"])
      expect(advertiseAddress(address, lan)).toBe("192.168.1.5:8080");
    for (const address of ["", "0.0.0.0", "::", "[::]"]) expect(advertiseAddress(address, lan)).toBe("192.168.1.5");
  });

  it("takes private IPv6 addresses in brackets, without a port without them", () => {
    const six = interfaces({ lo: ["::1"], eth0: ["fe80::1", "2001:db8::1", "fd12::9"] });
    expect(advertiseAddress(":80", six)).toBe("[fd12::9]:80");
    expect(advertiseAddress("", six)).toBe("fd12::9");
  });

  it("falls back to the first address that is no loopback, then to the first loopback", () => {
    expect(advertiseAddress(":80", interfaces({ lo: ["127.0.0.1"], a: ["9.9.9.9"], b: ["8.8.8.8"] }))).toBe(
      "9.9.9.9:80",
    );
    expect(advertiseAddress(":80", interfaces({ lo: ["127.0.0.1", "::1"] }))).toBe("127.0.0.1:80");
    expect(advertiseAddress(":80", interfaces({ lo: ["::1"] }))).toBe("[::1]:80");
    // Nobody could dial a link-local address without its zone.
    expect(advertiseAddress(":80", interfaces({ lo: ["127.0.0.1"], eth0: ["fe80::1"] }))).toBe("127.0.0.1:80");
  });

  it("knows private ranges by their bounds", () => {
    for (const [address, private_] of [
      ["172.15.0.1", false],
      ["172.16.0.1", true],
      ["172.31.255.1", true],
      ["172.32.0.1", false],
      ["192.169.0.1", false],
      ["100.64.0.1", false],
      ["11.0.0.1", false],
    ] as const) {
      const all = interfaces({ a: [address], b: ["10.9.9.9"] });
      expect(advertiseAddress(":1", all), address).toBe(private_ ? `${address}:1` : "10.9.9.9:1");
    }
  });

  it("is of the family the listener takes", () => {
    const six = interfaces({ lo: ["127.0.0.1", "::1"], eth0: ["fd00::2", "8.8.8.8"] });
    // Only its IPv6 address is private, and nobody listens there.
    expect(advertiseAddress("0.0.0.0:80", six)).toBe("8.8.8.8:80");
    expect(advertiseAddress("[::]:80", six)).toBe("[fd00::2]:80");
    expect(advertiseAddress(":80", six, { bound: "0.0.0.0:1" })).toBe("8.8.8.8:80");
    expect(advertiseAddress("0.0.0.0:80", six, { bound: "[::]:1" })).toBe("8.8.8.8:80");
    expect(advertiseAddress(":80", six, { bound: "[::]:1" })).toBe("[fd00::2]:80");
    const onlySix = interfaces({ lo: ["127.0.0.1", "::1"], eth0: ["fd00::2"] });
    expect(advertiseAddress("0.0.0.0:80", onlySix)).toBe("127.0.0.1:80");
    const nothing = () => advertiseAddress("0.0.0.0:80", interfaces({ lo: ["::1"], eth0: ["fd00::2"] }));
    expect(nothing).toThrow(/IPv4 address/);
    expect(nothing).toThrow(expect.objectContaining({ code: "unavailable" }));
  });

  it("is the listener's own where that listens at one host", () => {
    for (const bound of ["127.0.0.1:1", "10.0.0.1:1"])
      expect(advertiseAddress(":80", lan, { bound })).toBe(`${bound.slice(0, -2)}:80`);
    expect(advertiseAddress("[::]:80", lan, { bound: "[fd00::5]:1" })).toBe("[fd00::5]:80");
    expect(advertiseAddress("example.org:80", lan, { bound: "10.0.0.1:1" })).toBe("example.org:80");
  });

  it("is one that takes a connection, if any does", async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    // What is not of this machine cannot be connected to: refused, or without an answer.
    const odd = interfaces({ lo: ["127.0.0.2", "127.0.0.1"], eth0: ["127.0.0.3"] });
    const preferred = await reachableHost(`0.0.0.0:${port}`, undefined, odd);
    expect(preferred).toBe("127.0.0.1");
    expect(advertiseAddress(`0.0.0.0:${port}`, odd, { preferred })).toBe(`127.0.0.1:${port}`);
    // The interface has gone since.
    expect(advertiseAddress(`0.0.0.0:${port}`, lan, { preferred: "10.9.9.9" })).toBe(`192.168.1.5:${port}`);
    for (const address of ["unix:/x", "queue-name", `10.0.0.1:${port}`, "0.0.0.0:0", "a:b:c"])
      expect(await reachableHost(address, undefined, odd), address).toBeUndefined();
    server.close();
    await once(server, "close");
    expect(await reachableHost(`0.0.0.0:${port}`, undefined, odd)).toBeUndefined();
  });

  it("fails as unavailable without any address", () => {
    expect(() => advertiseAddress(":80", {})).toThrow(expect.objectContaining({ code: "unavailable" }));
  });

  it("asks the machine by default", () => {
    expect(advertiseAddress(":80")).toMatch(/:80$/);
  });

  it("refuses what is no address", () => {
    for (const address of ["a:b:c", "host:port", "[::1", "::1]:80", "1:2:3"])
      expect(() => advertiseAddress(address, lan), address).toThrow(TypeError);
  });

  it("is taken apart and put together", () => {
    expect(splitAddress("[::1]:80")).toEqual({ host: "::1", port: "80" });
    expect(splitAddress("::1")).toEqual({ host: "::1", port: undefined });
    expect(joinAddress("::1", "80")).toBe("[::1]:80");
    expect(joinAddress("::1", undefined)).toBe("::1");
  });
});
