import { describe, expect, it } from "vitest";
import { nearest } from "../src/nearest.ts";

describe("nearest", () => {
  const known = ["name", "timeoutMs", "address", "registry", "Hello"];
  it.each([
    ["nmae", "name"],
    ["Name", "name"],
    ["timeout", "timeoutMs"],
    ["adress", "address"],
    ["hello", "Hello"],
    ["regsitry", "registry"],
  ])("%s is meant to be %s", (name, meant) => {
    expect(nearest(name, known)).toBe(meant);
  });

  it.each(["", "x", "broker", "na", "zzzzzzzz"])("%j is like none of them", (name) => {
    expect(nearest(name, known)).toBeUndefined();
  });

  it("nothing is nearest where nothing is known", () => {
    expect(nearest("name", [])).toBeUndefined();
  });

  it("a very long name costs no more than its beginning", () => {
    const started = process.cpuUsage().user;
    expect(nearest("x".repeat(10_000_000), known)).toBeUndefined();
    expect(process.cpuUsage().user - started).toBeLessThan(1_000_000);
  });
});
