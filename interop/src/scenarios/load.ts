/** Many calls: kept connections, callers at once, and an instance that stops under load. */
import assert from "node:assert/strict";
import { MicroError, retryAlways, retryNotRun } from "@micro/core";
import { GoCannot, type Outcome, type Scenario, succeeded } from "../outcome.ts";
import { ourGreeter } from "../our-service.ts";
import type { Line } from "../go-process.ts";
import type { Column } from "../pair.ts";
import { waitFor } from "../wait.ts";

const sequentialCalls = 10_000;

async function hello({ pair, go, to }: Column, number: number, fresh = false): Promise<void> {
  const { msg } = await pair.ours.client.call<{ msg: string }>(
    go.name,
    "Plain.Hello",
    { name: `n${number}` },
    { ...to, freshConnection: fresh },
  );
  assert.equal(msg, `Hello n${number}`, "the answer of another call");
}

/** The address Go sees us under. */
async function remote({ pair, go, to }: Column): Promise<string> {
  const { values } = await pair.ours.client.call<{ values: Record<string, string> }>(go.name, "Plain.Meta", {}, to);
  return values["Remote"] ?? "";
}

export const load: readonly Scenario[] = [
  {
    name: "10 000 calls one after the other on kept connections, none lost",
    async goToTs({ pair, via }) {
      const result = await pair.goClient(via, {
        scenario: "sequential",
        endpoint: "Plain.Hello",
        n: sequentialCalls,
        limit: "80s",
      });
      succeeded(result);
    },
    async tsToGo(column) {
      const connections = new Set<string>();
      for (let i = 0; i < sequentialCalls; i++) {
        await hello(column, i);
        if (i % 500 === 0) connections.add(await remote(column));
      }
      // Kept, but not for ever: Go's servers hold memory for every call until its connection ends.
      assert.ok(connections.size >= 2, "one connection carried all calls");
      assert.ok(connections.size <= 8, `${connections.size} connections for calls in turn`);
    },
  },
  {
    name: "64 callers at once, 50 calls each",
    async goToTs({ pair, via }) {
      succeeded(await pair.goClient(via, { scenario: "concurrent", endpoint: "Plain.Hello", parallel: 64, n: 50 }));
      succeeded(
        await pair.goClient(via, {
          scenario: "concurrent",
          endpoint: "Greeter.Hello",
          encoding: "proto",
          parallel: 64,
          n: 50,
        }),
      );
    },
    async tsToGo(column) {
      await Promise.all(
        Array.from({ length: 64 }, async (_, caller) => {
          for (let i = 0; i < 50; i++) await hello(column, caller * 50 + i);
        }),
      );
    },
  },
  {
    name: "a connection for every call",
    async goToTs({ pair, via, generation }): Promise<Outcome> {
      const result = succeeded(
        await pair.goClient(via, { scenario: "sequential", endpoint: "Plain.Hello", n: 100, fresh: true }),
      );
      assert.equal(result["calls"], 100);
      if (generation === "v2") return new GoCannot("it has no option for it; the calls passed on kept ones");
    },
    async tsToGo(column) {
      for (let i = 0; i < 100; i++) await hello(column, i, true);
    },
  },
  {
    name: "one of three instances stops under load, no call is lost",
    via: "mdns",
    async goToTs({ pair, via }) {
      const name = pair.unique("rolling");
      const instances = Array.from({ length: 3 }, () => ourGreeter({ name }).service);
      await Promise.all(instances.map((instance) => instance.start()));
      try {
        const calling = {
          service: name,
          scenario: "concurrent",
          endpoint: "Plain.Hello",
          parallel: 4,
          n: 1500,
        } as const;
        const result: { line?: Line } = {};
        const calls = pair.goClient(via, calling).then((line) => (result.line = line));
        const [first] = instances;
        const served = (): number => first!.server.stats.requests;
        await waitFor(
          "the first instance is called",
          served,
          (count) => count >= 100 || result.line !== undefined,
          20_000,
        );
        assert.equal(result.line, undefined, "the calls were over before the stop");
        await first!.stop();
        succeeded(await calls);
      } finally {
        await Promise.all(instances.map((instance) => instance.stop()));
      }
    },
    async tsToGo({ pair }) {
      const name = pair.unique("rolling");
      await using stack = new AsyncDisposableStack();
      const servers = await Promise.all([0, 1, 2].map(() => pair.startServer(name)));
      for (const server of servers) stack.use(server);
      const state: { calls: number; stop: boolean; failures: unknown[] } = { calls: 0, stop: false, failures: [] };
      const callers = [retryNotRun, retryNotRun, retryAlways, retryAlways].map(async (retry) => {
        while (!state.stop) {
          try {
            await pair.ours.client.call(name, "Plain.Hello", { name: "x" }, { retry, retries: 3 });
            state.calls++;
          } catch (error) {
            // Go's server cuts what it is running when it stops: such a call may have run, and by default it is not
            // repeated. Where the caller says that repeating is harmless, it must succeed.
            const cut = MicroError.is(error) && error.code === "unavailable" && !error.notRun;
            if (retry !== retryNotRun || !cut) state.failures.push(error);
          }
        }
      });
      const reach = (count: number): Promise<unknown> =>
        waitFor(
          `${count} calls`,
          () => state,
          (now) => now.calls >= count || now.failures.length > 0,
          20_000,
        );
      await reach(300);
      servers[0]!.process.kill("SIGTERM");
      await servers[0]!.process.exited;
      await reach(state.calls + 300);
      state.stop = true;
      await Promise.all(callers);
      if (state.failures.length > 0) throw state.failures[0];
    },
  },
];
