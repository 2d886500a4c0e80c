/** Nodes that register no `protocol`: callers fall back to the envelopes of json-rpc and proto-rpc. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mdnsRegistry } from "@micro/core";
import { Greeter } from "../definition.ts";
import { type Scenario, failed, rejected, succeeded } from "../outcome.ts";
import type { Column } from "../pair.ts";

/** Our service under a second name, with a node that does not say what it speaks. */
async function withBareNode<T>({ pair }: Column, run: (name: string) => Promise<T>): Promise<T> {
  const name = pair.unique("bare");
  const node = { id: `${name}-${randomUUID()}`, address: pair.ourAddress, metadata: {} };
  const record = { name, version: "1", metadata: {}, endpoints: [], nodes: [node] };
  await using registry = mdnsRegistry();
  await registry.register(record);
  try {
    return await run(name);
  } finally {
    await registry.deregister(record);
  }
}

type Values = { values: Record<string, string> };

export const oldProtocol: readonly Scenario[] = [
  {
    name: "old protocol, json-rpc: call and error",
    via: "mdns",
    async goToTs(column) {
      await withBareNode(column, async (service) => {
        const { pair, via } = column;
        const result = succeeded(
          await pair.goClient(via, { service, endpoint: "Plain.Hello", body: { name: "old ü" } }),
        );
        assert.deepEqual(result["response"], { msg: "Hello old ü" });
        const { response } = succeeded(await pair.goClient(via, { service, endpoint: "Plain.Meta" }));
        assert.equal((response as Values).values["Content-Type"], "application/json-rpc", "Go did not fall back");
        const error = failed(
          await pair.goClient(via, { service, endpoint: "Plain.Fail", body: { id: "x", code: 404, detail: "no ü" } }),
        );
        assert.deepEqual([error.id, error.code, error.detail], ["x", 404, "no ü"]);
      });
    },
    async tsToGo({ pair }) {
      await using server = await pair.startServer(pair.unique("bare"), "-bare");
      const { client } = pair.ours;
      assert.deepEqual(await client.call(server.name, "Plain.Hello", { name: "old ü" }), { msg: "Hello old ü" });
      const { values } = await client.call<Values>(server.name, "Plain.Meta", {});
      assert.equal(values["Content-Type"], "application/json-rpc");
      const error = await rejected(client.call(server.name, "Plain.Fail", { id: "x", code: 404, detail: "no ü" }));
      assert.deepEqual([error.id, error.code, error.detail], ["x", "not_found", "no ü"]);
    },
  },
  {
    name: "old protocol, proto-rpc: call and error",
    via: "mdns",
    async goToTs(column) {
      await withBareNode(column, async (service) => {
        const { pair, via } = column;
        const proto = { service, encoding: "proto" } as const;
        const result = succeeded(
          await pair.goClient(via, { ...proto, endpoint: "Greeter.Hello", body: { name: "old ü" } }),
        );
        assert.deepEqual(result["response"], { msg: "Hello old ü" });
        const { response } = succeeded(await pair.goClient(via, { ...proto, endpoint: "Greeter.Meta" }));
        assert.equal((response as Values).values["Content-Type"], "application/proto-rpc", "Go did not fall back");
        const error = failed(
          await pair.goClient(via, {
            ...proto,
            endpoint: "Greeter.Fail",
            body: { id: "x", code: 404, detail: "no ü" },
          }),
        );
        assert.deepEqual([error.id, error.code, error.detail], ["x", 404, "no ü"]);
      });
    },
    async tsToGo({ pair }) {
      await using server = await pair.startServer(pair.unique("bare"), "-bare");
      const greeter = pair.ours.client(Greeter, { service: server.name });
      assert.deepEqual(await greeter.hello({ name: "old ü" }), { msg: "Hello old ü" });
      assert.equal((await greeter.meta({})).values["Content-Type"], "application/proto-rpc");
      const error = await rejected(greeter.fail({ id: "x", code: 404, detail: "no ü" }));
      assert.deepEqual([error.id, error.code, error.detail], ["x", "not_found", "no ü"]);
    },
  },
];
