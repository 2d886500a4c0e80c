/** Unary calls: bodies of all kinds and sizes, metadata. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Greeter } from "../definition.ts";
import { GoCannot, type Scenario, rejected, succeeded } from "../outcome.ts";

// Characters of two, three and four bytes, and those that Go's JSON encoder escapes.
const text = `José Ünïcödé ✓ 𝄞 <&> "quoted" 100%`;
const value = 'José ✓ 日本 🎉, ;="quoted"';
const mebibyte = 1024 * 1024;

function pattern(size: number): Uint8Array {
  return Buffer.alloc(size, "0123456789abcdef");
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export const calls: readonly Scenario[] = [
  {
    name: "unary, JSON, structs and no definition",
    async goToTs({ pair, via }) {
      const result = succeeded(await pair.goClient(via, { endpoint: "Plain.Hello", body: { name: text } }));
      assert.deepEqual(result["response"], { msg: `Hello ${text}` });
    },
    async tsToGo({ pair, go, to }) {
      assert.deepEqual(await pair.ours.client.call(go.name, "Plain.Hello", { name: text }, to), {
        msg: `Hello ${text}`,
      });
    },
  },
  {
    name: "unary, protobuf",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, { endpoint: "Greeter.Hello", encoding: "proto", body: { name: text } });
      assert.deepEqual(succeeded(result)["response"], { msg: `Hello ${text}` });
    },
    async tsToGo({ pair, go, to }) {
      const greeter = pair.ours.client(Greeter, { service: go.name });
      assert.deepEqual(await greeter.hello({ name: text }, to), { msg: `Hello ${text}` });
    },
  },
  {
    name: "unary, protobuf messages as JSON",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, {
        endpoint: "Greeter.Hello",
        encoding: "jsonproto",
        body: { name: text },
      });
      assert.deepEqual(succeeded(result)["response"], { msg: `Hello ${text}` });
    },
    async tsToGo({ pair, go, to }) {
      const greeter = pair.ours.client(Greeter, { service: go.name, contentType: "application/json" });
      assert.deepEqual(await greeter.hello({ name: text }, to), { msg: `Hello ${text}` });
      assert.deepEqual((await greeter.echo({ data: Buffer.from([0, 255, 1]), text }, to)).text, text);
    },
  },
  {
    name: "empty message, JSON",
    async goToTs({ pair, via }) {
      succeeded(await pair.goClient(via, { endpoint: "Plain.Nothing" }));
    },
    async tsToGo({ pair, go, to }) {
      assert.deepEqual(await pair.ours.client.call(go.name, "Plain.Nothing", {}, to), {});
    },
  },
  {
    name: "empty message, protobuf: an empty body",
    async goToTs({ pair, via }) {
      succeeded(await pair.goClient(via, { endpoint: "Greeter.Nothing", encoding: "proto" }));
    },
    async tsToGo({ pair, go, to }) {
      assert.deepEqual(await pair.ours.client(Greeter, { service: go.name }).nothing({}, to), {});
    },
  },
  {
    name: "1 MiB each way, JSON",
    async goToTs({ pair, via }) {
      const result = succeeded(await pair.goClient(via, { endpoint: "Plain.Echo", fill: mebibyte }));
      assert.deepEqual([result["size"], result["same"]], [mebibyte, true]);
    },
    async tsToGo({ pair, go, to }) {
      const sent = "ü<".repeat(mebibyte / 2);
      const { text: got } = await pair.ours.client.call<{ text: string }>(go.name, "Plain.Echo", { text: sent }, to);
      assert.equal(got.length, sent.length);
      assert.ok(got === sent, "the text came back changed");
    },
  },
  {
    name: "1 MiB each way, protobuf",
    async goToTs({ pair, via }) {
      const result = succeeded(
        await pair.goClient(via, { endpoint: "Greeter.Echo", encoding: "proto", fill: mebibyte }),
      );
      assert.deepEqual([result["size"], result["same"]], [mebibyte, true]);
    },
    async tsToGo({ pair, go, to }) {
      const data = pattern(mebibyte);
      const answer = await pair.ours.client(Greeter, { service: go.name }).echo({ data }, to);
      assert.equal(answer.data.length, mebibyte);
      assert.equal(digest(answer.data), digest(data));
    },
  },
  {
    name: "metadata, UTF-8 included, reaches the handler",
    async goToTs({ pair, via }) {
      const metadata = { "X-User": value, Plain: "yes" };
      const result = await pair.goClient(via, { endpoint: "Plain.Meta", metadata });
      const { values } = succeeded(result)["response"] as { values: Record<string, string> };
      assert.deepEqual([values["X-User"], values["Plain"]], [value, "yes"]);
    },
    async tsToGo({ pair, go, to }) {
      const metadata = { "x-user": value, Plain: "yes" };
      const options = { ...to, metadata };
      const { values } = await pair.ours.client.call<{ values: Record<string, string> }>(
        go.name,
        "Plain.Meta",
        {},
        options,
      );
      assert.deepEqual([values["X-User"], values["Plain"]], [value, "yes"]);
      assert.equal(values["Micro-Service"], go.name);
    },
  },
  {
    name: "metadata goes through a handler of the other side and on",
    // Go client → our handler → Go handler.
    async goToTs({ pair, via, go }) {
      const body = { service: go.name, address: via === "address" ? go.address : "" };
      for (const [endpoint, encoding] of [
        ["Plain.Forward", "json"],
        ["Greeter.Forward", "proto"],
      ] as const) {
        const result = await pair.goClient(via, { endpoint, encoding, body, metadata: { "X-User": value } });
        const { values } = succeeded(result)["response"] as { values: Record<string, string> };
        assert.equal(values["X-User"], value);
        assert.equal(values["Micro-Service"], go.name, "the target is ours, not the first call's");
        // What describes one message must not travel on with the next.
        assert.notEqual(values["Remote"], undefined, "Go sets this itself");
        assert.equal(values["Micro-Endpoint"], endpoint.replace("Forward", "Meta"));
      }
    },
    // Our client → Go handler → our handler.
    async tsToGo({ pair, go, to, via }) {
      const request = { service: pair.ourName, address: via === "address" ? pair.ourAddress : "" };
      const options = { ...to, metadata: { "X-User": value } };
      const { values } = await pair.ours.client.call<{ values: Record<string, string> }>(
        go.name,
        "Plain.Forward",
        request,
        options,
      );
      assert.equal(values["X-User"], value);
      const proto = await pair.ours.client(Greeter, { service: go.name }).forward(request, options);
      assert.equal(proto.values["X-User"], value);
    },
  },
  {
    name: "Debug.Health",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, { endpoint: "Debug.Health" });
      assert.deepEqual(succeeded(result)["response"], { status: "ok" });
    },
    async tsToGo({ pair, go, to, generation }) {
      const call = pair.ours.client.call(go.name, "Debug.Health", {}, to);
      if (generation === "v2") {
        assert.deepEqual(await call, { status: "ok" });
        return undefined;
      }
      const error = await rejected(call);
      assert.match(error.detail, /can't find service Debug/);
      return new GoCannot("not registered by itself since v4.8");
    },
  },
];
