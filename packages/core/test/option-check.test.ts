import { describe, expect, it } from "vitest";
import {
  checkLimit,
  checkNumber,
  checkOptionNames,
  checkPause,
  longestTimerMs,
  timerDelay,
} from "../src/option-check.ts";

const names = { name: true, timeoutMs: true, ttlMs: true, maxMessageBytes: true } as const;
const refusal = (options: unknown): string => {
  try {
    checkOptionNames("make", options as object, names as never);
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    return (error as Error).message;
  }
  return "";
};

describe("names of options", () => {
  it.each([
    [{ nmae: 1 }, "make: there is no option `nmae`; did you mean `name`?"],
    [{ timeout: 1 }, "make: there is no option `timeout`; did you mean `timeoutMs`?"],
    [{ ttl: 1 }, "make: there is no option `ttl`; did you mean `ttlMs`?"],
    [{ timeoutSeconds: 1 }, "make: there is no option `timeoutSeconds`; did you mean `timeoutMs`?"],
    [{ MaxMessageBytes: 1 }, "make: there is no option `MaxMessageBytes`; did you mean `maxMessageBytes`?"],
    [{ elephant: undefined }, "make: there is no option `elephant`"],
    [{ toString: 1 }, "make: there is no option `toString`"],
    [{ ["x".repeat(10_000)]: 1 }, `make: there is no option \`${"x".repeat(60)}…\``],
    ["greeter", 'make: options are an object, such as { name: … }, not "greeter"'],
    [null, "make: options are an object, such as { name: … }, not null"],
    [["a"], "make: options are an object, such as { name: … }, not a list"],
    [7, "make: options are an object, such as { name: … }, not 7"],
  ])("%j are refused", (options, message) => expect(refusal(options)).toBe(message));

  it.each([[undefined], [{}], [{ name: undefined }], [{ ttlMs: 1, name: "" }]])("%j pass", (options) =>
    expect(refusal(options)).toBe(""),
  );
});

describe("numbers of options", () => {
  it("are refused outside of their bounds, and where they are none", () => {
    for (const value of [-1, Number.NaN, "5", null, true, 5n]) {
      expect(() => checkLimit("make", "n", value as number), String(value)).toThrow(/^make: `n` must be a number of m/);
      expect(() => checkPause("make", "n", value as number), String(value)).toThrow(/from 0 to 2147483647/);
    }
    expect(() => checkPause("make", "n", 2 ** 31)).toThrow(
      "make: `n` must be a number of milliseconds, from 0 to 2147483647, not 2147483648",
    );
    expect(() => checkNumber("make", "n", 1.5, { whole: true })).toThrow("a whole number, 0 or more, not 1.5");
    expect(() => checkNumber("make", "n", 0, { least: 1 })).toThrow("1 or more, not 0");
    for (const value of [undefined, 0, 0.5, longestTimerMs]) checkPause("make", "n", value);
    for (const value of [undefined, 0, 2 ** 31, Infinity]) checkLimit("make", "n", value);
  });

  it("become delays that timers keep", () => {
    expect([0, 5, longestTimerMs, 2 ** 31, Infinity].map(timerDelay)).toEqual([
      0,
      5,
      longestTimerMs,
      longestTimerMs,
      longestTimerMs,
    ]);
  });
});
