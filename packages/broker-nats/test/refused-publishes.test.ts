import { consoleLogger } from "@micro/core";
import { describe, expect, it } from "vitest";
import { RefusedPublishes } from "../src/refused-publishes.ts";

const violation = Object.assign(new Error("Permissions Violation"), { name: "PermissionViolationError" });

function made() {
  const lines: string[] = [];
  return { lines, refused: new RefusedPublishes(consoleLogger({ write: (line) => void lines.push(line) })) };
}

describe("refused publishes", () => {
  it("reject whoever waits for the server's word on that subject, and nobody else", async () => {
    const { refused } = made();
    const other = Promise.withResolvers<string>();
    const waiting = [
      refused.during("a", () => new Promise(() => {})),
      refused.during("a", () => new Promise(() => {})),
    ];
    const elsewhere = refused.during("b", () => other.promise);
    refused.add("a", violation);
    for (const each of waiting) await expect(each).rejects.toMatchObject({ code: "forbidden" });
    other.resolve("fine");
    expect(await elsewhere).toBe("fine");
  });

  it("keep nobody in mind who has stopped waiting, however that ended", async () => {
    const { refused } = made();
    await refused.during("a", async () => {});
    await refused.during("b", () => Promise.reject(new Error("lost"))).catch(() => {});
    const waiting = refused.during("c", () => new Promise(() => {}));
    refused.add("c", violation);
    await waiting.catch(() => {});
    expect(refused.watched).toBe(0);
  });

  it("are told in the log once a subject, once for all acknowledgements of a consumer, and anew when it was allowed", () => {
    const { refused, lines } = made();
    for (const subject of ["a", "a", "b", "$JS.ACK.S.C.1.2.3.4.0", "$JS.ACK.S.C.1.3.4.5.0"])
      refused.add(subject, violation);
    expect(lines).toHaveLength(3);
    refused.forget("a");
    refused.add("a", violation);
    expect(lines).toHaveLength(4);
  });
});
