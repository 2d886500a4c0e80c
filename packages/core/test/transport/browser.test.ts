/** What pages of other origins can make a real browser send to a service: none of it runs a handler. */
import { createServer as createHttpServer, type Server } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { Listener, Transport } from "../../src/transport/transport.ts";
import { chromium, openPage } from "../support/chromium.ts";

/** Runs in the page: `target` is the service. Every attempt that can be waited for says how it ended. */
const attempts = `
async function attempt(name, run) {
  try { return [name, String(await run())]; } catch (error) { return [name, "failed: " + error.name]; }
}
const send = (target, init) => fetch(target, { method: "POST", ...init }).then(async (reply) => reply.type + " " + reply.status + " " + (await reply.text()));
const micro = { "Content-Type": "application/json", "Micro-Endpoint": "T.M", "Micro-Service": "t", "Micro-Id": "1" };
const envelope = new Uint8Array([10, 3, 84, 46, 77]);
function form(target, enctype) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.name = "f" + Math.random();
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", action: target, enctype, target: frame.name });
    const input = document.createElement("input");
    input.name = '{"method":"T.M","params":[{}],"id":1,"x":"';
    input.value = '"}';
    form.append(input);
    document.body.append(form);
    frame.onload = () => resolve("sent");
    form.submit();
    setTimeout(() => resolve("sent"), 1500);
  });
}
function foreign(target) {
  return [
    attempt("text", () => send(target, { mode: "no-cors", body: "{}" })),
    attempt("untyped", () => send(target, { mode: "no-cors", body: new Blob([envelope]) })),
    attempt("bytes", () => send(target, { mode: "no-cors", body: envelope })),
    attempt("parameters", () => send(target, { mode: "no-cors", body: new URLSearchParams({ a: 1 }) })),
    attempt("fields", () => { const data = new FormData(); data.set("a", "1"); return send(target, { mode: "no-cors", body: data }); }),
    attempt("without a referrer", () => send(target, { mode: "no-cors", referrerPolicy: "no-referrer", body: new Blob([envelope]) })),
    attempt("kept alive", () => send(target, { mode: "no-cors", keepalive: true, body: new Blob([envelope]) })),
    attempt("headers dropped by no-cors", () => send(target, { mode: "no-cors", headers: micro, body: "{}" })),
    attempt("preflight", () => send(target, { headers: micro, body: "{}" })),
    attempt("preflight for the type", () => send(target, { headers: { "Content-Type": "application/json" }, body: "{}" })),
    attempt("preflight for the method", () => send(target, { method: "PUT", body: "{}" })),
    attempt("simple with cors", () => send(target, { body: "{}" })),
    attempt("beacon", () => navigator.sendBeacon(target, new Blob([envelope]))),
    attempt("beacon of text", () => navigator.sendBeacon(target, "{}")),
    attempt("get", () => send(target, { method: "GET", mode: "no-cors" })),
    attempt("socket", () => new Promise((resolve) => { const socket = new WebSocket(target.replace("http", "ws")); socket.onerror = socket.onopen = (event) => resolve(event.type); })),
    attempt("events", () => new Promise((resolve) => { const source = new EventSource(target); source.onerror = source.onopen = (event) => { source.close(); resolve(event.type); }; })),
    attempt("image", () => new Promise((resolve) => { const image = new Image(); image.onload = image.onerror = (event) => resolve(event.type); image.src = target; })),
    attempt("form", () => form(target, "application/x-www-form-urlencoded")),
    attempt("form of text", () => form(target, "text/plain")),
    attempt("form of parts", () => form(target, "multipart/form-data")),
    attempt("old request", () => new Promise((resolve) => { const old = new XMLHttpRequest(); old.onloadend = () => resolve(old.status); old.open("POST", target); old.send(new Blob([envelope])); })),
    attempt("sandboxed", () => new Promise((resolve) => { const frame = document.createElement("iframe"); frame.sandbox = "allow-scripts"; frame.srcdoc = "<script>fetch('" + target + "',{method:'POST',mode:'no-cors',body:new Blob(['x'])}).finally(()=>parent.postMessage('sent','*'))</scr" + "ipt>"; addEventListener("message", () => resolve("sent"), { once: true }); document.body.append(frame); setTimeout(() => resolve("sent"), 1500); })),
  ];
}
function rebound(target) {
  return [
    attempt("json", () => send(target, { headers: micro, body: "{}" })),
    attempt("same origin without a referrer", () => send(target, { mode: "same-origin", referrerPolicy: "no-referrer", headers: micro, body: "{}" })),
    attempt("no referrer", () => send(target, { referrerPolicy: "no-referrer", headers: micro, body: "{}" })),
    attempt("put", () => send(target, { method: "PUT", headers: micro, body: "{}" })),
    attempt("get with headers", () => send(target, { method: "GET", headers: micro })),
    attempt("head with headers", () => send(target, { method: "HEAD", headers: micro })),
    attempt("as Go", () => send(target, { headers: { ...micro, "User-Agent": "Go-http-client/1.1" }, body: "{}" })),
    attempt("untyped", () => send(target, { body: new Blob([envelope]) })),
    attempt("old request", () => new Promise((resolve) => { const old = new XMLHttpRequest(); old.onloadend = () => resolve(old.status); old.open("POST", target); for (const [name, value] of Object.entries(micro)) old.setRequestHeader(name, value); old.send("{}"); })),
  ];
}
`;

const page = (script: string): string =>
  `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body><script>${attempts}
(async () => {
  const ended = await Promise.all(${script});
  await fetch("${pageOrigin}/done", { method: "POST", mode: "no-cors", body: JSON.stringify(ended) });
})();</script>`;

let pages: Server;
let pageOrigin: string;
let script: string;
let done: PromiseWithResolvers<[string, string][]>;
let transport: Transport;
let ran: string[];

/** A service on a free port. */
function serve(origins?: readonly string[]): Promise<Listener> {
  return transport.listen(
    (exchange) => {
      ran.push(`${exchange.endpoint} ${[...exchange.header].map((entry) => entry.join(": ")).join(", ")}`);
      exchange.reply({ contentType: "application/json", body: Buffer.from(`{"ran":true}`) });
    },
    { address: "127.0.0.1:0", origins },
  );
}

async function answerOf(url: string, hosts?: string): Promise<[string, string][]> {
  const browser = await openPage(url, hosts);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("the page did not end within 50 s")), 50_000);
  });
  try {
    return await Promise.race([done.promise, late]);
  } finally {
    clearTimeout(timer);
    await browser[Symbol.asyncDispose]();
  }
}

beforeAll(async () => {
  transport = httpTransport();
  pages = createHttpServer((request, response) => {
    if (request.url === "/done") {
      let text = "";
      request.setEncoding("utf8");
      request.on("data", (part: string) => (text += part));
      request.on("end", () => {
        response.end();
        done.resolve(JSON.parse(text) as [string, string][]);
      });
      return;
    }
    response.setHeader("Connection", "close");
    response.setHeader("Content-Type", "text/html");
    response.end(page(script));
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  pageOrigin = `http://localhost:${(pages.address() as AddressInfo).port}`;
});

afterAll(async () => {
  pages.closeAllConnections();
  await new Promise((resolve) => pages.close(resolve));
  await transport[Symbol.asyncDispose]();
});

const missing = typeof chromium === "string" ? undefined : chromium.message;

describe.skipIf(missing !== undefined)(`a browser${missing === undefined ? "" : ` (${missing})`}`, () => {
  it("a page of another origin runs nothing, whatever it sends", { timeout: 60_000 }, async () => {
    ran = [];
    done = Promise.withResolvers();
    await using listener = await serve();
    script = `foreign("http://${listener.address}/")`;
    const ended = await answerOf(pageOrigin);
    expect(ran).toEqual([]);
    // The attempts were made, and what the browser lets a page see of them is nothing.
    expect(ended.length).toBe(23);
    expect(ended.filter(([, how]) => /200|true,|"ran"/.test(how))).toEqual([]);
    expect(Object.fromEntries(ended)).toMatchObject({ preflight: "failed: TypeError", untyped: "opaque 0 " });
  });

  it("a page whose name was rebound to the service runs nothing", { timeout: 60_000 }, async () => {
    ran = [];
    done = Promise.withResolvers();
    await using listener = await serve();
    // The name's owner answers the first request, on the service's own port; all others reach the service.
    const owner = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.once("data", (first: Buffer) => {
        const line = first.toString("latin1").split("\r\n", 1)[0];
        const ownPage = line?.startsWith("GET /page ") === true;
        const behind = connect(ownPage ? (pages.address() as AddressInfo).port : portOf(listener.address), "127.0.0.1");
        behind.on("error", () => socket.destroy());
        behind.write(first);
        socket.pipe(behind).pipe(socket);
      });
    });
    await new Promise<void>((resolve) => owner.listen(0, "127.0.0.1", resolve));
    try {
      const host = `evil.example:${(owner.address() as AddressInfo).port}`;
      script = `rebound("http://${host}/")`;
      const ended = await answerOf(`http://${host}/page`, "MAP evil.example 127.0.0.1");
      expect(ran).toEqual([]);
      expect(ended.length).toBe(9);
      // It is the service that answers the page.
      expect(Object.fromEntries(ended)).toMatchObject({
        json: expect.stringMatching(/^basic 403 .*"code":403/) as string,
        "get with headers": expect.stringMatching(/^basic 405 /) as string,
        "old request": "403",
      });
    } finally {
      await new Promise((resolve) => owner.close(resolve));
    }
  });

  it("a page whose origin is named calls, and reads the answer", { timeout: 60_000 }, async () => {
    ran = [];
    done = Promise.withResolvers();
    await using listener = await serve([pageOrigin]);
    script = `[attempt("call", () => send("http://${listener.address}/", { headers: micro, body: "{}" }))]`;
    expect(await answerOf(pageOrigin)).toEqual([["call", 'cors 200 {"ran":true}']]);
    expect(ran).toHaveLength(1);
  });
});

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}
