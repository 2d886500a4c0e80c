import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.ts";
import { Metadata } from "../../src/metadata.ts";
import { bidiHandler, clientStreamHandler, serverStreamHandler } from "../../src/server/kinds.ts";
import type { Peer } from "./support/loop-transport.ts";
import { served, waitFor } from "./support/served.ts";

type HandlerStep = "read" | "readAhead" | "readAll" | "send" | "turn" | "throw" | "sendWrong" | "waitForAbort";
type PeerStep = "push" | "pushGarbage" | "closeSend" | "read" | "turn" | "leave";
type Kind = "Unary" | "Server" | "Client" | "Bidi" | "Plain";

interface Plan {
  readonly kind: Kind;
  readonly handler: readonly HandlerStep[];
  readonly peer: readonly PeerStep[];
  readonly timeoutMs: number | undefined;
}

const plans: fc.Arbitrary<Plan> = fc.record({
  kind: fc.constantFrom<Kind>("Unary", "Server", "Client", "Bidi", "Plain"),
  handler: fc.array(
    fc.constantFrom<HandlerStep>("read", "readAhead", "readAll", "send", "turn", "throw", "sendWrong", "waitForAbort"),
    { maxLength: 8 },
  ),
  peer: fc.array(fc.constantFrom<PeerStep>("push", "pushGarbage", "closeSend", "read", "turn", "leave"), {
    maxLength: 10,
  }),
  timeoutMs: fc.constantFrom(undefined, undefined, 0, 1, 5),
});

function aborted({ signal }: Context): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve());
  });
}

/** Runs the steps; `open` counts the bodies that have not been left. */
async function* run(
  steps: readonly HandlerStep[],
  requests: AsyncIterable<unknown>,
  context: Context,
  open: { count: number },
): AsyncGenerator {
  open.count++;
  try {
    const iterator = requests[Symbol.asyncIterator]();
    for (const step of steps) {
      if (step === "read") await iterator.next();
      else if (step === "readAhead") void iterator.next();
      else if (step === "readAll") while ((await iterator.next()).done !== true);
      else if (step === "send") yield { step };
      else if (step === "sendWrong") yield () => {};
      else if (step === "turn") await turn();
      else if (step === "throw") throw new Error("thrown by a step");
      else await aborted(context);
    }
  } finally {
    await turn();
    open.count--;
  }
}

async function* none(): AsyncGenerator {}

async function last(messages: AsyncIterable<unknown>): Promise<unknown> {
  let result: unknown;
  for await (const message of messages) result = message;
  return result;
}

async function act(peer: Peer, steps: readonly PeerStep[]): Promise<void> {
  for (const step of steps) {
    if (step === "push") peer.push("{}");
    else if (step === "pushGarbage") peer.push("{");
    else if (step === "closeSend") peer.closeSend();
    else if (step === "read") void peer.read();
    else if (step === "leave") peer.leave();
    else await turn();
  }
}

describe("any interleaving of handler and caller", () => {
  it("leaves nothing running, no rejection unhandled, and ends each exchange once", async () => {
    const unhandled: unknown[] = [];
    const onUnhandled = (error: unknown): void => void unhandled.push(error);
    process.on("unhandledRejection", onUnhandled);
    try {
      await fc.assert(
        fc.asyncProperty(
          fc.array(plans, { minLength: 1, maxLength: 6 }),
          fc.constantFrom("leave", "drain", "stop"),
          fc.constantFrom(1, 2, 100),
          async (all, ending, maxConcurrency) => {
            const open = { count: 0 };
            const steps = (context: Context): readonly HandlerStep[] =>
              all[Number(context.metadata.get("Plan"))]!.handler;
            await using host = await served(
              (server) =>
                server.handle("Run", {
                  unary: (_: unknown, context: Context) => last(run(steps(context), none(), context, open)),
                  plain: (_: unknown, context: Context) => ({ steps: steps(context).length }),
                  server: serverStreamHandler((_, context) => run(steps(context), none(), context, open)),
                  client: clientStreamHandler((requests, context) =>
                    last(run(steps(context), requests, context, open)),
                  ),
                  bidi: bidiHandler((requests, context) => run(steps(context), requests, context, open)),
                }),
              { maxConcurrency },
            );
            const peers = all.map(({ kind, timeoutMs }, i) =>
              host.exchange(`Run.${kind}`, {}, { timeoutMs, header: new Metadata({ plan: String(i) }) }),
            );
            await Promise.all(peers.map((peer, i) => act(peer, all[i]!.peer)));
            if (ending === "leave") for (const peer of peers) peer.leave();
            else if (ending === "drain") await host.server.drain(1);
            else await host.server.stop();
            await waitFor(() => host.server.stats.inFlight === 0);
            for (const peer of peers) peer.leave();
            await waitFor(() => open.count === 0);
            for (const peer of peers) expect(peer.replies + (peer.ended === undefined ? 0 : 1)).toBe(1);
          },
        ),
        { numRuns: 300, interruptAfterTimeLimit: 10_000 },
      );
      await turn();
      expect(unhandled).toEqual([]);
    } finally {
      process.off("unhandledRejection", onUnhandled);
    }
  });
});
