/** One service of Go and TypeScript instances, on Go's wire and on the fast one, that is upgraded and rolled back under load. */
import assert from "node:assert/strict";
import { type CallWrapper, type Transport, httpTransport } from "@micro/core";
import { type OurService, ourGreeter, ourProgram } from "../our-service.ts";
import type { Scenario } from "../outcome.ts";
import { waitFor } from "../wait.ts";

type Way = "go" | "http" | "fast";

/** Without the path past all wires that calls within a process take. */
function wired(wire: "http" | "auto"): Transport {
  return httpTransport({ wire, direct: false });
}

export const fleet: readonly Scenario[] = [
  {
    name: "a mixed fleet is moved to the fast wire and back under load, no call is lost",
    via: "mdns",
    async tsToGo({ pair }) {
      const name = pair.unique("mixed");
      await using stack = new AsyncDisposableStack();
      const go = stack.use(await pair.startServer(name));
      const launch = async (wire: "http" | "auto"): Promise<OurService> => {
        const { service } = ourGreeter({ name, transport: stack.use(wired(wire)) });
        stack.defer(() => service.stop());
        await service.start();
        return service;
      };

      /** Calls answered by each way since the last step, and by each node. */
      let ways: Record<Way, number> = { go: 0, http: 0, fast: 0 };
      const nodes = new Set<string>();
      const counting: CallWrapper = (next) => async (request, context) => {
        const reply = await next(request, context);
        const { id, metadata } = context.node;
        nodes.add(id);
        ways[id === go.id ? "go" : metadata["wire"] === undefined ? "http" : "fast"]++;
        return reply;
      };
      const caller = ourProgram({
        name: pair.unique("caller"),
        transport: stack.use(wired("auto")),
        wrapCall: [counting],
      });
      stack.defer(() => caller.stop());

      let instances = [await launch("http"), await launch("auto")];
      const failures: unknown[] = [];
      const state = { done: false };
      const callers = Array.from({ length: 8 }, async (_, index) => {
        for (let call = 0; !state.done; call++) {
          const text = `n${index}-${call}`;
          try {
            const { msg } = await caller.call<{ msg: string }>(name, "Plain.Hello", { name: text });
            assert.equal(msg, `Hello ${text}`, "the answer of another call");
          } catch (error) {
            failures.push(error);
          }
        }
      });
      /** Until every way that is there has answered, and every instance. */
      const settled = async (expected: readonly Way[]): Promise<void> => {
        ways = { go: 0, http: 0, fast: 0 };
        await waitFor(
          `answers by ${expected.join(", ")} and ${instances.length} instances`,
          () => ({ ways, nodes: [...nodes], failures: failures.map(String) }),
          (now) =>
            now.failures.length > 0 ||
            (expected.every((way) => now.ways[way] >= 50) && instances.every(({ nodeId }) => nodes.has(nodeId))),
          20_000,
        );
      };
      try {
        await settled(["go", "http", "fast"]);
        // All to the fast wire, all back, and mixed again: one instance after the other, the new one first.
        for (const [wires, expected] of [
          [
            ["auto", "auto"],
            ["go", "fast"],
          ],
          [
            ["http", "http"],
            ["go", "http"],
          ],
          [
            ["http", "auto"],
            ["go", "http", "fast"],
          ],
        ] as const) {
          for (const [index, wire] of wires.entries()) {
            const next = await launch(wire);
            const before = instances[index]!;
            instances = instances.with(index, next);
            await waitFor(
              "calls to the new instance",
              () => nodes,
              (seen) => seen.has(next.nodeId),
              20_000,
            );
            await before.stop();
          }
          await settled(expected);
        }
      } finally {
        state.done = true;
        await Promise.all(callers);
      }
      assert.deepEqual(failures.map(String), []);
    },
  },
];
