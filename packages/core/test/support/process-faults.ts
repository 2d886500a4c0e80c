/** What happens to the process of a service, seen by others through a registry: frozen, killed, another time of day. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createService, silentLogger, type Registry, type RegistryEvent } from "@micro/core";
import type { ChildReport, ClockJump } from "./registry-child.ts";
import { eventually, instance, slackMs, type FaultyServer } from "./registry-faults.ts";

export interface ProcessFaultOptions {
  readonly start: () => Promise<FaultyServer>;
  readonly connect: (address: string) => Registry;
  /** The program that calls `runChild()`, and the module that lets it run on the sources. */
  readonly program: string;
  readonly resolve: string;
}

const ttlMs = 6_000;
const intervalMs = 2_000;
const freezeMs = 30_000;
const hourMs = 3_600_000;
/** Until the server removes what has expired: etcd looks twice a second, Consul somewhat later. */
const sweepMs = 2_000;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A child that is registered, somebody who looks and calls, and what the child says. */
async function scene({ start, connect, program, resolve }: ProcessFaultOptions) {
  await using stack = new AsyncDisposableStack();
  const server = stack.adopt(await start(), (started) => started.dispose());
  const open = (): Registry => {
    const registry = connect(server.address);
    stack.defer(() => registry[Symbol.asyncDispose]());
    return registry;
  };
  const registry = open();
  const greeter = instance(open(), "first");
  stack.defer(() => greeter.stop());
  await greeter.start();
  const caller = createService({
    name: "caller",
    registry: open(),
    logger: silentLogger,
    handleSignals: false,
    args: [],
    env: {},
  });
  stack.defer(() => caller.stop());
  const child = spawn(
    process.execPath,
    ["--import", resolve, program, server.address, String(ttlMs), String(intervalMs)],
    { stdio: ["ignore", "ignore", "inherit", "ipc"] },
  );
  const exited = once(child, "exit");
  stack.defer(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  const reports: ChildReport[] = [];
  child.on("message", (message: ChildReport) => reports.push(message));
  const there = async (): Promise<boolean> => (await registry.getService("child")).length > 0;
  await eventually("the child is registered", 30_000, there);
  const rest = stack.move();
  return {
    child,
    exited,
    registry,
    there,
    call: <Response>(endpoint: string, timeoutMs = slackMs) =>
      caller.call<Response>("child", endpoint, {}, { timeoutMs }),
    lines: () => reports.flatMap((message) => ("line" in message ? [message.line] : [])),
    readiness: () => reports.flatMap((message) => ("ready" in message ? [message.ready] : [])),
    async jump(jumpMs: number): Promise<void> {
      child.send({ jumpMs } satisfies ClockJump);
      await eventually("the clock jumps", 10_000, async () =>
        reports.some((message) => "jumped" in message && message.jumped === jumpMs),
      );
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

/** The faults by name; each is a test's body. */
export function processFaults(options: ProcessFaultOptions): Readonly<Record<string, () => Promise<void>>> {
  return {
    "a freeze of their own process for 30 s, and are gone after kill -9": async () => {
      await using on = await scene(options);
      await on.call("Child.Hour");
      const frozenAt = performance.now();
      on.child.kill("SIGSTOP");
      await eventually("gone while frozen", ttlMs + sweepMs + slackMs, async () => !(await on.there()));
      await wait(freezeMs - (performance.now() - frozenAt));
      on.child.kill("SIGCONT");
      await eventually("registered again", intervalMs + slackMs, on.there);
      await eventually("called again", slackMs, async () => (await on.call("Child.Hour")) !== undefined);
      await eventually("ready again", slackMs, async () => on.readiness().at(-1) === true);
      const told = on.lines().filter((line) => /stood still|Registration lost/.test(line));
      assert.ok(told.length > 0 && told.length <= 2, `says why: ${JSON.stringify(on.lines())}`);
      on.child.kill("SIGKILL");
      await on.exited;
      // Nobody listens there any more: no call waits for the registry to notice, which takes the TTL.
      const refusal = await on.call("Child.Hour", ttlMs / 2).catch((error: unknown) => error);
      assert.ok(refusal instanceof Error && /ECONNREFUSED|refused/.test(refusal.message), String(refusal));
      await eventually("gone after its end", ttlMs + sweepMs + slackMs, async () => !(await on.there()));
    },
    "jumps of the clock by hours, forth and back": async () => {
      await using on = await scene(options);
      const before = (await on.call<{ hour: number }>("Child.Hour")).hour;
      const events: RegistryEvent[] = [];
      const watcher = on.registry.watch({ service: "child" });
      await watcher.ready;
      const reading = (async () => {
        for await (const event of watcher) events.push(event);
      })();
      let hours = 0;
      for (const jump of [5, -12]) {
        hours += jump;
        await on.jump(jump * hourMs);
        const until = performance.now() + ttlMs + intervalMs;
        while (performance.now() < until) {
          assert.deepEqual(await on.call("Child.Relay"), { label: "first" }, "it calls, and is called");
          assert.ok(await on.there(), "it stays registered");
          await wait(100);
        }
        const { hour } = await on.call<{ hour: number }>("Child.Hour");
        assert.ok(Math.abs(hour - before - hours) <= 1, `the clock did jump: ${before}, ${hour}`);
      }
      await watcher[Symbol.asyncDispose]();
      await reading;
      assert.deepEqual(
        events.filter(({ action }) => action === "delete"),
        [],
      );
      assert.deepEqual(on.readiness(), [true], "it was ready all the time");
      assert.deepEqual(
        on.lines().filter((line) => !line.startsWith("info")),
        [],
      );
    },
  };
}
