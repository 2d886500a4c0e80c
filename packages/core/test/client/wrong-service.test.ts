import { describe, expect, it } from "vitest";
import { MicroError, stringify } from "../../src/errors.ts";
import type { HandlerRegistration } from "../../src/server/server.ts";
import type { ServerExchange } from "../../src/transport/transport.ts";
import { errorOf, Fleet, type FleetOptions } from "./support/fleet.ts";

const shop = (handlers: HandlerRegistration) =>
  handlers.handle("Shop", {
    get: () => ({ from: "shop" }),
    async *list() {
      yield { from: "shop" };
    },
  });

/** Billing's process has the port that a record of the shop still names. */
async function squatted(options: FleetOptions = {}, record?: Record<string, string>) {
  const fleet = new Fleet({ strategy: "roundRobin", ...options });
  const seen: (boolean | undefined)[] = [];
  const refuse = (exchange: ServerExchange): void => {
    seen.push(exchange.lookedUp);
    const error = new MicroError("this is billing, not shop", { id: "billing", code: "unavailable" });
    exchange.reply({ error: stringify(error), notRun: true, body: new Uint8Array(0) });
  };
  const listener = await fleet.transport.listen(refuse, { address: "127.0.0.1:0" });
  await fleet.register("shop", "stale", listener.address, record);
  return { fleet, listener, seen };
}

describe("a node that is another service's process", () => {
  for (const transport of ["memory", "direct", "fast", "http"] as const) {
    it(`is left out at once, and no call is lost to it: ${transport}`, async () => {
      const { fleet, listener, seen } = await squatted({ transport });
      await using stack = new AsyncDisposableStack();
      stack.use(fleet);
      stack.use(listener);
      await fleet.serve("shop", shop);
      const client = fleet.connect({ retries: 0 });
      for (let call = 0; call < 10; call++) expect(await client.call("shop", "Shop.Get", {})).toEqual({ from: "shop" });
      const refusals = fleet.selector.told.filter(({ error }) => error !== undefined);
      expect(refusals).toHaveLength(1);
      expect(refusals[0]).toMatchObject({
        node: "stale",
        error: { code: "unavailable", notRun: true, id: "billing", cause: { code: "EWRONGSERVICE" } },
      });
      expect(seen).toHaveLength(1);
    });

    it(`tells its reason once, however often it was tried: ${transport}`, async () => {
      const { fleet, listener } = await squatted({ transport });
      await using stack = new AsyncDisposableStack();
      stack.use(fleet);
      stack.use(listener);
      const { detail } = await errorOf(fleet.connect({ backoff: () => 0 }).call("shop", "Shop.Get", {}));
      expect(detail.replaceAll(listener.address, "HOST").replaceAll(/\d+ ms/g, "N ms")).toBe(
        "shop Shop.Get at stale (HOST): this is billing, not shop; tried stale at HOST (N ms), stale at HOST (N ms)",
      );
    });

    it(`is passed over by streams as well: ${transport}`, async () => {
      const { fleet, listener } = await squatted({ transport });
      await using stack = new AsyncDisposableStack();
      stack.use(fleet);
      stack.use(listener);
      await fleet.serve("shop", shop);
      const client = fleet.connect({ retries: 0 });
      for (let call = 0; call < 4; call++) {
        const messages: unknown[] = [];
        const stream = client.client(Shop).list({});
        for await (const message of stream) messages.push(message);
        expect(messages).toEqual([{ from: "shop" }]);
      }
    });
  }

  it("is left out where the record is a Go service's, which says nothing of wires", async () => {
    const go = { broker: "http", protocol: "mucp", registry: "mdns", server: "mucp", transport: "http" };
    const { fleet, listener, seen } = await squatted({ transport: "fast" }, go);
    await using stack = new AsyncDisposableStack();
    stack.use(fleet);
    stack.use(listener);
    await fleet.serve("shop", shop);
    const client = fleet.connect({ retries: 0 });
    for (let call = 0; call < 4; call++) {
      expect(await client.call("shop", "Shop.Get", {})).toEqual({ from: "shop" });
      const messages: unknown[] = [];
      for await (const message of client.client(Shop).list({})) messages.push(message);
      expect(messages).toEqual([{ from: "shop" }]);
    }
    expect(seen).toEqual([true]);
  });

  it("is what the error tells of when there is no other", async () => {
    const { fleet, listener } = await squatted();
    await using stack = new AsyncDisposableStack();
    stack.use(fleet);
    stack.use(listener);
    const error = await errorOf(fleet.connect({ retries: 0 }).call("shop", "Shop.Get", {}));
    expect(error).toMatchObject({
      code: "unavailable",
      statusCode: 503,
      notRun: true,
      id: "billing",
      detail: `shop Shop.Get at stale (${listener.address}): this is billing, not shop`,
      attempts: [{ node: "stale", address: listener.address }],
    });
  });

  it("is told which calls were looked up, and which were given an address", async () => {
    const { fleet, listener, seen } = await squatted();
    await using stack = new AsyncDisposableStack();
    stack.use(fleet);
    stack.use(listener);
    const client = fleet.connect({ retries: 0 });
    await errorOf(client.call("shop", "Shop.Get", {}));
    const byAddress = await errorOf(client.call("shop", "Shop.Get", {}, { address: listener.address }));
    await errorOf(client.client(Shop).list({}).next());
    await errorOf(client.client(Shop).list({}, { address: listener.address }).next());
    expect(seen).toEqual([true, false, true, false]);
    // By address there is no record that could be wrong: it is a refusal like any other.
    expect(byAddress).toMatchObject({ code: "unavailable", notRun: true, detail: "this is billing, not shop" });
    expect(byAddress.cause).toBeUndefined();
  });
});

const Shop = {
  service: "shop",
  type: "Shop",
  contentType: "application/json",
  methods: { list: { name: "List", kind: "server", request: { name: "ListRequest" }, response: { name: "Item" } } },
} as const;
