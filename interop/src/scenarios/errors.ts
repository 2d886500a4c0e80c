/** Errors: of handlers, and of the framework. */
import assert from "node:assert/strict";
import { jsonCodec } from "@micro/core";
import { Greeter } from "../definition.ts";
import { ourProgram } from "../our-service.ts";
import { GoCannot, type Outcome, type Scenario, failed, rejected } from "../outcome.ts";
import type { Column } from "../pair.ts";

const detail = `no "bob" <ü & ✓> 100%`;
const request = { id: "shop.users", code: 404, detail };

function assertHandlerError(error: { id: string; detail: string; status: string }, code: number): void {
  assert.deepEqual([error.id, code, error.detail, error.status], ["shop.users", 404, detail, "Not Found"]);
}

/** Go generations before v3.6 encode "no body" with protobuf, fail, and send nothing at all. */
async function neverAnswered(call: Promise<unknown>): Promise<Outcome> {
  const error = await rejected(call);
  assert.equal(error.code, "timeout", `Go did answer: ${error.message}`);
  return new GoCannot("its protobuf codec sends neither errors nor the end of a stream");
}

const limit = { timeoutMs: 700 };

export const errors: readonly Scenario[] = [
  {
    name: "error with id, code and detail, JSON",
    async goToTs({ pair, via }) {
      const error = failed(await pair.goClient(via, { endpoint: "Plain.Fail", body: request }));
      assertHandlerError(error, error.code);
    },
    async tsToGo({ pair, go, to }) {
      const error = await rejected(pair.ours.client.call(go.name, "Plain.Fail", request, to));
      assertHandlerError(error, error.statusCode);
      assert.equal(error.code, "not_found");
    },
  },
  {
    name: "error with id, code and detail, protobuf",
    async goToTs({ pair, via }) {
      const error = failed(await pair.goClient(via, { endpoint: "Greeter.Fail", encoding: "proto", body: request }));
      assertHandlerError(error, error.code);
    },
    async tsToGo({ pair, go, to, generation }) {
      const greeter = pair.ours.client(Greeter, { service: go.name });
      if (generation === "v2") return neverAnswered(greeter.fail(request, { ...to, ...limit }));
      const error = await rejected(greeter.fail(request, to));
      assertHandlerError(error, error.statusCode);
    },
  },
  {
    name: "plain error of a handler",
    async goToTs({ pair, via }) {
      const key = pair.unique("plain");
      const error = failed(
        await pair.goClient(via, {
          endpoint: "Plain.Fail",
          body: { plain: true, detail: "it broke ü" },
          metadata: { Key: key },
        }),
      );
      // As Go's own servers send it: with a code of 500, v2's clients would run the handler once more.
      assert.deepEqual([error.id, error.code, error.detail, error.status], ["", 0, "it broke ü", ""]);
      assert.equal(pair.runs.of(key).runs, 1);
    },
    async tsToGo({ pair, go, to }) {
      const error = await rejected(
        pair.ours.client.call(go.name, "Plain.Fail", { plain: true, detail: "it broke ü" }, to),
      );
      assert.deepEqual([error.code, error.statusCode, error.detail], ["unknown", 0, "it broke ü"]);
    },
  },
  {
    name: "plain error of a handler, protobuf; a text that looks like an error",
    async goToTs({ pair, via }) {
      for (const text of ["it broke", "EOS", '{"id":"x","code":500,"detail":"again","status":"y"}']) {
        const key = pair.unique("plain");
        const error = failed(
          await pair.goClient(via, {
            endpoint: "Greeter.Fail",
            encoding: "proto",
            body: { plain: true, detail: text },
            metadata: { Key: key },
          }),
        );
        assert.equal(error.code, 0);
        assert.ok(error.text.includes(text), error.text);
        assert.equal(pair.runs.of(key).runs, 1);
      }
    },
  },
  {
    name: "an answer that cannot be written",
    async goToTs({ pair, via }) {
      const key = pair.unique("unwritable");
      const error = failed(await pair.goClient(via, { endpoint: "Plain.Unwritable", metadata: { Key: key } }));
      assert.match(error.text, /^Unable to encode body: /);
      assert.deepEqual([error.code, pair.runs.of(key).runs], [0, 1]);
    },
  },
  {
    name: "unknown method, unknown handler",
    async goToTs({ pair, via }) {
      const method = failed(await pair.goClient(via, { endpoint: "Plain.Nope" }));
      assert.match(method.text, /can't find method Nope/);
      const handler = failed(await pair.goClient(via, { endpoint: "Nobody.Hello" }));
      assert.match(handler.text, /can't find service Nobody/);
    },
    async tsToGo({ pair, go, to }) {
      const method = await rejected(pair.ours.client.call(go.name, "Plain.Nope", {}, to));
      assert.match(method.detail, /can't find method Nope/);
      const handler = await rejected(pair.ours.client.call(go.name, "Nobody.Hello", {}, to));
      assert.match(handler.detail, /can't find service Nobody/);
    },
  },
  {
    name: "unknown service",
    via: "mdns",
    async goToTs({ pair, via }) {
      const error = failed(await pair.goClient(via, { service: "nobody", endpoint: "Plain.Hello", await: "0s" }));
      assert.match(error.detail, /not found/);
      assert.equal(error.code, 500);
    },
    async tsToGo({ pair }) {
      const error = await rejected(pair.ours.client.call("nobody", "Plain.Hello", {}));
      assert.equal(error.code, "not_found");
      assert.match(error.detail, /nobody/);
      assert.match(error.detail, /mdns/);
    },
  },
  {
    name: "nobody listens at the address",
    via: "address",
    async goToTs({ pair }) {
      const error = failed(await pair.goClient("address", { address: "127.0.0.1:1", endpoint: "Plain.Hello" }));
      assert.match(error.detail, /connection refused/);
    },
    async tsToGo({ pair, go }) {
      const error = await rejected(pair.ours.client.call(go.name, "Plain.Hello", {}, { address: "127.0.0.1:1" }));
      assert.equal(error.code, "unavailable");
      assert.ok(error.notRun);
      assert.equal(error.attempts[0]?.address, "127.0.0.1:1");
    },
  },
  {
    name: "unreadable request",
    async tsToGo({ pair, go, to }) {
      const error = await rejected(pair.ours.client.call(go.name, "Plain.Hello", { name: 5 }, to));
      assert.match(error.detail, /router cannot decode request|cannot unmarshal/);
    },
  },
  {
    name: "a field nobody knows, in JSON for a protobuf message",
    async tsToGo({ pair, go, to }: Column): Promise<Outcome> {
      const known = await pair.ours.client.call<{ msg: string }>(go.name, "Greeter.Hello", { name: "x" }, to);
      assert.deepEqual(known, { msg: "Hello x" });
      const message = { name: "x", nobodyKnowsThis: 1 };
      const error = await rejected(pair.ours.client.call(go.name, "Greeter.Hello", message, to));
      assert.match(error.detail, /unknown field "nobodyKnowsThis"/);
      return new GoCannot("JSON for a protobuf message may not have fields its type does not know");
    },
  },
  {
    name: "a content type with a parameter",
    via: "address",
    async tsToGo({ pair, go, to }: Column): Promise<Outcome> {
      const contentType = "application/json; charset=utf-8";
      await using caller = ourProgram({ name: "caller", registry: "memory", codecs: { [contentType]: jsonCodec } });
      const error = await rejected(caller.call(go.name, "Plain.Hello", { name: "x" }, { ...to, contentType }));
      // Go answers 200 with text in the body; ours does not take that for an answer.
      assert.equal(error.code, "codec");
      assert.match(error.detail, /charset=utf-8/);
      assert.deepEqual(await pair.ours.client.call(go.name, "Plain.Hello", { name: "x" }, to), { msg: "Hello x" });
      return new GoCannot("it knows content types without parameters only");
    },
  },
  {
    name: "a request it cannot read, as application/octet-stream",
    async tsToGo({ pair, go, to }: Column): Promise<Outcome> {
      const options = { ...to, ...limit, contentType: "application/octet-stream" };
      const error = await rejected(pair.ours.client.call(go.name, "Plain.Hello", Buffer.from("{}"), options));
      assert.equal(error.code, "timeout", `Go did answer: ${error.message}`);
      return new GoCannot("it reports no errors as application/octet-stream");
    },
  },
  {
    name: "a panicking handler",
    async tsToGo({ pair, go, to }: Column): Promise<Outcome> {
      const error = await rejected(
        pair.ours.client.call(go.name, "Plain.Fail", { panic: true, detail: "boom" }, { ...to, ...limit }),
      );
      assert.equal(error.code, "timeout", `Go did answer: ${error.message}`);
      return new GoCannot("a panic is never answered over mucp");
    },
  },
];
