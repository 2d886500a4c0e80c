import { describe, expect, it } from "vitest";
import type { CallContext } from "../../src/client/client.ts";
import { RetryBudget } from "../../src/client/retry-budget.ts";
import { exponentialBackoff, retryAlways, retryNever, retryNotRun, retryOnError } from "../../src/client/retry.ts";
import { MicroError } from "../../src/errors.ts";

const context = {} as CallContext;
const refused = new MicroError("refused", { code: "unavailable", notRun: true });
const withStatus = (statusCode: number): MicroError => new MicroError("x", { statusCode });

function spend(budget: RetryBudget, now: number): number {
  let spent = 0;
  while (spent < 10_000 && budget.retry(now)) spent += 1;
  return spent;
}

describe("retry policies", () => {
  it("retryNotRun repeats only what did not run", () => {
    expect(retryNotRun(refused, context, 1)).toBe(true);
    for (const status of [0, 400, 408, 500, 503]) expect(retryNotRun(withStatus(status), context, 1)).toBe(false);
  });

  it("retryOnError repeats 408 and 500 as well, as go-micro v2", () => {
    expect(retryOnError(refused, context, 1)).toBe(true);
    const repeated = [0, 400, 404, 408, 409, 500, 503].filter(
      (status) => retryOnError(withStatus(status), context, 1) === true,
    );
    expect(repeated).toEqual([408, 500]);
  });

  it("retryAlways and retryNever do not look at the error", () => {
    expect(retryAlways(withStatus(400), context, 1)).toBe(true);
    expect(retryNever(refused, context, 1)).toBe(false);
  });
});

describe("exponentialBackoff", () => {
  it("gives Go's waiting times", () => {
    const table = Array.from({ length: 9 }, (_, attempt) => exponentialBackoff(attempt));
    expect(table).toEqual([0, 100, 600, 1_900, 4_300, 7_900, 13_000, 19_800, 28_500]);
    expect(exponentialBackoff(13)).toBeLessThan(120_000);
    expect(exponentialBackoff(14)).toBe(120_000);
  });
});

describe("RetryBudget", () => {
  it("allows ten retries per second over ten seconds without any calls", () => {
    expect(spend(new RetryBudget(), 5_000)).toBe(100);
  });

  it("allows a share of the calls beside that", () => {
    const budget = new RetryBudget(0.2);
    for (let call = 0; call < 1_000; call += 1) budget.call(5_000 + call);
    expect(spend(budget, 6_000)).toBe(300);
    expect(spend(new RetryBudget(0), 6_000)).toBe(100);
  });

  it("forgets what is older than ten seconds, and nothing younger", () => {
    const budget = new RetryBudget(0);
    expect(spend(budget, 500)).toBe(100);
    expect(budget.retry(9_500)).toBe(false);
    expect(budget.retry(10_500)).toBe(true);
    const idle = new RetryBudget(0);
    expect(spend(idle, 1_000)).toBe(100);
    expect(spend(idle, 3_600_000)).toBe(100);
  });

  it("refuses a share that is no number", () => {
    for (const share of [-1, Number.NaN, "x" as unknown as number])
      expect(() => new RetryBudget(share)).toThrow(TypeError);
  });
});
