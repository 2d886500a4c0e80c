/** Deadlines and cancellation, each seen by the other side. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { retryAlways } from "@micro/core";
import type { SleepReport } from "../../gen/greeter.ts";
import { GoCannot, type Scenario, between, failed, rejected, succeeded } from "../outcome.ts";
import type { Column } from "../pair.ts";
import { waitFor } from "../wait.ts";

/** What a Go server tells of its handler's runs. */
function goRuns({ pair, go }: Column, key: string): Promise<SleepReport> {
  return pair.ours.client.call<SleepReport>(go.name, "Plain.Slept", { key }, { address: go.address });
}

function goEnded(column: Column, key: string, ends = 1): Promise<SleepReport> {
  return waitFor(
    `Go's handler ends for ${key}`,
    () => goRuns(column, key),
    (runs) => runs.ends >= ends,
  );
}

function ourEnded({ pair }: Column, key: string, timeoutMs = 5_000): Promise<SleepReport> {
  return waitFor(
    `our handler ends for ${key}`,
    () => pair.runs.of(key),
    (runs) => runs.ends >= 1,
    timeoutMs,
  );
}

export const time: readonly Scenario[] = [
  {
    name: "timeout: the caller gives up, the handler sees it",
    async goToTs(column) {
      const { pair, via, generation } = column;
      const key = pair.unique("timeout");
      // v2 limits the call, later generations each attempt; without retries the two are the same.
      const options = generation === "v2" ? { timeout: "400ms" } : { attempt: "400ms" };
      const started = performance.now();
      const body = { key, ms: 20_000 };
      const error = failed(await pair.goClient(via, { endpoint: "Plain.Sleep", body, retries: 0, ...options }));
      between("time until Go gave up, with its start", performance.now() - started, 400, 4_000);
      assert.equal(error.code, 408);
      const runs = await ourEnded(column, key);
      assert.equal(runs.runs, 1);
      assert.ok(runs.cancelled);
      between("time left at the start", runs.left, 200, 400);
      between("run time of our handler", runs.ran, 200, 3_000);
    },
    async tsToGo(column) {
      const { pair, go, to } = column;
      const key = pair.unique("timeout");
      const started = performance.now();
      const error = await rejected(
        pair.ours.client.call(go.name, "Plain.Sleep", { key, ms: 20_000 }, { ...to, timeoutMs: 400 }),
      );
      between("time until ours gave up", performance.now() - started, 390, 2_000);
      assert.deepEqual([error.code, error.statusCode], ["timeout", 408]);
      const runs = await goEnded(column, key);
      assert.equal(runs.runs, 1);
      assert.ok(runs.cancelled);
      between("time left at the start", runs.left, 100, 400);
      between("run time of Go's handler", runs.ran, 100, 3_000);
    },
  },
  {
    // Both meanings of `Timeout`: the time left of the whole call (v2, ours), and the limit of one attempt (later ones).
    name: "a method slower than the caller's limit is run again as the caller's generation does",
    async goToTs(column) {
      const { pair, via, generation } = column;
      const key = pair.unique("again");
      const options = generation === "v2" ? { timeout: "400ms" } : { attempt: "400ms" };
      const body = { key, ms: 20_000 };
      const error = failed(await pair.goClient(via, { endpoint: "Plain.Sleep", body, retries: 2, ...options }));
      assert.equal(error.code, 408);
      const expected = generation === "v2" ? 1 : 3;
      const runs = await waitFor(
        "all runs of our handler end",
        () => pair.runs.of(key),
        (seen) => seen.ends >= expected,
      );
      assert.deepEqual([runs.runs, runs.ends, runs.cancelled], [expected, expected, true]);
      if (generation === "v2") return undefined;
      return new GoCannot("a slow method is run again after each attempt's limit, though it has run");
    },
    async tsToGo(column) {
      const { pair, go, to } = column;
      const key = pair.unique("again");
      // Go's server notices the limit, too, and may say so a moment earlier: a pause leaves no time for another attempt.
      const options = { ...to, timeoutMs: 400, retries: 2, retry: retryAlways, backoff: () => 100 };
      const error = await rejected(pair.ours.client.call(go.name, "Plain.Sleep", { key, ms: 20_000 }, options));
      assert.deepEqual([error.code, error.statusCode], ["timeout", 408]);
      const runs = await goEnded(column, key);
      assert.deepEqual([runs.runs, runs.cancelled], [1, true]);
    },
  },
  {
    name: "the time left travels",
    async goToTs({ pair, via, generation }) {
      const result = await pair.goClient(via, {
        endpoint: "Plain.Sleep",
        body: { key: pair.unique("left"), ms: 1 },
        deadline: "2s",
      });
      const { left } = succeeded(result)["response"] as SleepReport;
      if (generation === "v2") {
        between("time left", left, 500, 2_000);
        return undefined;
      }
      between("time left", left, 4_000, 5_000);
      return new GoCannot("it sends the limit of one attempt, 5 s, whatever the caller's deadline");
    },
    async tsToGo({ pair, go, to }) {
      const options = { ...to, timeoutMs: 2_000 };
      const runs = await pair.ours.client.call<SleepReport>(
        go.name,
        "Plain.Sleep",
        { key: pair.unique("left"), ms: 1 },
        options,
      );
      between("time left", runs.left, 500, 2_000);
      const standard = await pair.ours.client.call<SleepReport>(
        go.name,
        "Plain.Sleep",
        { key: pair.unique("left"), ms: 1 },
        to,
      );
      between("time left by default", standard.left, 3_500, 5_000);
    },
  },
  {
    name: "cancellation by the caller reaches the handler",
    async goToTs(column) {
      const { pair, via, generation } = column;
      const key = pair.unique("cancel");
      await using client = pair.startClient(via, {
        endpoint: "Plain.Sleep",
        body: { key, ms: 4_000 },
        cancel: "500ms",
        retries: 0,
        linger: "20s",
      });
      const error = failed(await client.line("a result", (line) => "ok" in line));
      assert.equal(error.code, 408);
      if (generation === "v2") {
        const runs = await ourEnded(column, key);
        assert.ok(runs.cancelled, "our handler was not cancelled");
        between("run time of our handler", runs.ran, 100, 3_500);
        return undefined;
      }
      // The connection stays open until the attempt's own limit; what we can see is that it goes with the program.
      await delay(700);
      assert.equal(pair.runs.of(key).ends, 0, "Go closed the connection of a cancelled call");
      client.kill("SIGKILL");
      const runs = await ourEnded(column, key);
      assert.ok(runs.cancelled, "our handler was not cancelled when Go's program went away");
      return new GoCannot("it keeps the connection of a cancelled call open for the rest of the attempt's 5 s");
    },
    async tsToGo(column) {
      const { pair, go, to } = column;
      const key = pair.unique("cancel");
      const controller = new AbortController();
      const call = rejected(
        pair.ours.client.call(go.name, "Plain.Sleep", { key, ms: 20_000 }, { ...to, signal: controller.signal }),
      );
      await waitFor(
        "Go's handler runs",
        () => goRuns(column, key),
        (runs) => runs.runs === 1,
      );
      controller.abort();
      assert.equal((await call).code, "aborted");
      const runs = await goEnded(column, key);
      assert.ok(runs.cancelled);
      assert.match(runs.error, /canceled/);
      between("run time of Go's handler", runs.ran, 0, 4_000);
    },
  },
  {
    name: "the other side's program dies in a call",
    via: "address",
    async goToTs(column) {
      const { pair } = column;
      const key = pair.unique("dies");
      const client = pair.startClient("address", { endpoint: "Plain.Sleep", body: { key, ms: 20_000 } });
      await waitFor(
        "our handler runs",
        () => pair.runs.of(key),
        (runs) => runs.runs === 1,
      );
      client.kill("SIGKILL");
      await client.exited;
      const runs = await ourEnded(column, key);
      assert.ok(runs.cancelled);
    },
    async tsToGo({ pair }) {
      const name = pair.unique("dies");
      await using server = await pair.startServer(name);
      const options = { address: server.address, timeoutMs: 10_000 };
      const call = rejected(pair.ours.client.call(name, "Plain.Sleep", { key: name, ms: 20_000 }, options));
      const runs = (): Promise<SleepReport> => pair.ours.client.call(name, "Plain.Slept", { key: name }, options);
      await waitFor("Go's handler runs", runs, ({ runs: started }) => started === 1);
      const started = performance.now();
      server.process.kill("SIGKILL");
      const error = await call;
      assert.equal(error.code, "unavailable");
      assert.equal(error.notRun, false, "the handler had started");
      between("time until ours knew", performance.now() - started, 0, 2_000);
    },
  },
];
