import { EventEmitter } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { watchLeaks } from "../src/leaks.ts";

const listener = (): void => {};

describe("leaks", () => {
  it("nothing is found where nothing is left", async () => {
    const leaks = watchLeaks();
    const controller = leaks.controller();
    const emitter = leaks.emitter(new EventEmitter());
    clearTimeout(setTimeout(() => {}, 60_000));
    clearInterval(setInterval(() => {}, 60_000));
    await new Promise((resolve) => setTimeout(resolve, 1));
    controller.signal.addEventListener("abort", listener);
    controller.signal.removeEventListener("abort", listener);
    emitter.on("data", listener);
    emitter.off("data", listener);
    const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1").resume();
    await new Promise((resolve) => socket.once("close", resolve));
    server.close();
    await leaks.end();
  });

  it("a timer, even one that does not keep the process alive", async () => {
    const leaks = watchLeaks();
    const timer = setTimeout(() => {}, 60_000).unref();
    await expect(leaks.end()).rejects.toThrow(/a timer, from\n[^\n]*leaks\.test\.ts/);
    clearTimeout(timer);
  });

  it("a listener on a signal, after an abort as well", async () => {
    const leaks = watchLeaks();
    const controller = leaks.controller();
    controller.signal.addEventListener("abort", () => {});
    controller.abort();
    await expect(leaks.end()).rejects.toThrow(/1 listeners on a signal made at\n[^]*leaks\.test\.ts/);
  });

  it("a listener on an emitter, beside those it had", async () => {
    const leaks = watchLeaks();
    const emitter = leaks.emitter(new EventEmitter().on("data", () => {}));
    emitter.on("data", () => {});
    await expect(leaks.end()).rejects.toThrow("1 listeners on an emitter handed in");
  });

  it("a port and an open socket", async () => {
    const leaks = watchLeaks();
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const accepted = new Promise<void>((resolve) => server.once("connection", () => resolve()));
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
    await accepted;
    const found = await leaks.end().catch((error: unknown) => String(error));
    socket.destroy();
    server.close();
    expect(found).toContain("a bound port");
    expect(found).toContain("a socket");
    expect(found).toContain("an accepted socket");
  });

  it("a listener on the process", async () => {
    const leaks = watchLeaks();
    process.on("SIGQUIT", listener);
    await expect(leaks.end()).rejects.toThrow("1 listeners of the process's SIGQUIT");
    process.off("SIGQUIT", listener);
  });

  it("tells what is there while the work goes on", async () => {
    const leaks = watchLeaks();
    const { signal } = leaks.controller();
    const emitter = leaks.emitter(new EventEmitter());
    expect(leaks.standing()).toBe(0);
    const timer = setTimeout(() => {}, 60_000);
    signal.addEventListener("abort", listener);
    emitter.on("data", listener);
    expect(leaks.standing()).toBe(3);
    clearTimeout(timer);
    signal.removeEventListener("abort", listener);
    expect(leaks.standing()).toBe(1);
    emitter.off("data", listener);
    await leaks.end();
  });
});
