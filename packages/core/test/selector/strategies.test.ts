import { describe, expect, it } from "vitest";
import { filterAddress, filterEndpoint, filterLabel, filterVersion } from "../../src/selector/filters.ts";
import type { Candidate, Strategy, StrategyName } from "../../src/selector/selector.ts";
import { powerOfTwoChoices, randomChoice, roundRobin, strategyByName } from "../../src/selector/strategies.ts";
import { record } from "../support/faulty-registry.ts";

/** Numbers in [0, 1) that are the same in every run. */
function seeded(seed = 42): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state / 0x7fff_ffff;
  };
}

function candidate(id: string, values: Partial<Candidate> = {}): Candidate {
  const service = record("greeter", [id]);
  return { node: service.nodes[0]!, service, inFlight: 0, latencyMs: 10, weight: 1, ...values };
}

/** Share of each candidate in 10 000 choices. */
function shares(strategy: Strategy, candidates: readonly Candidate[]): Record<string, number> {
  const counts = new Map(candidates.map(({ node }) => [node.id, 0]));
  for (let index = 0; index < 10_000; index++) {
    const { id } = strategy(candidates).node;
    counts.set(id, counts.get(id)! + 1);
  }
  return Object.fromEntries([...counts].map(([id, count]) => [id, count / 10_000]));
}

const strategies = { powerOfTwoChoices, randomChoice, roundRobin };

describe.each(Object.entries(strategies))("%s", (_name, create) => {
  it("gives equal nodes equal shares", () => {
    const equal = ["a", "b", "c", "d"].map((id) => candidate(id));
    for (const share of Object.values(shares(create({ random: seeded() }), equal))) expect(share).toBeCloseTo(0.25, 1);
  });

  it("picks the only node, whatever its weight", () => {
    expect(create()([candidate("a", { weight: 0.1 })]).node.id).toBe("a");
  });

  it("gives a node on its way back its share only", () => {
    const candidates = [candidate("a"), candidate("b"), candidate("c", { weight: 0.1 })];
    const share = shares(create({ random: seeded() }), candidates)["c"]!;
    expect(share).toBeGreaterThan(0.01);
    expect(share).toBeLessThan(0.1);
  });
});

describe("powerOfTwoChoices", () => {
  it("prefers the node that will answer sooner", () => {
    const slow = [candidate("a"), candidate("b"), candidate("slow", { latencyMs: 100 })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), slow)["slow"]).toBe(0);
    const busy = [candidate("a"), candidate("b"), candidate("busy", { inFlight: 10 })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), busy)["busy"]).toBe(0);
    const both = [candidate("quick", { latencyMs: 1, inFlight: 5 }), candidate("slow", { latencyMs: 20 })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), both)["quick"]).toBe(1);
  });

  it("shares among nodes of about the same latency", () => {
    const near = [candidate("a", { latencyMs: 10 }), candidate("b", { latencyMs: 11 })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), near)["b"]).toBeCloseTo(0.5, 1);
    const tiny = [candidate("a", { latencyMs: 0.01 }), candidate("b", { latencyMs: 0.5 })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), tiny)["b"]).toBeCloseTo(0.5, 1);
  });

  it("tries a node of unknown latency first, but only once until it has answered", () => {
    const fresh = [candidate("a"), candidate("fresh", { latencyMs: undefined })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), fresh)["fresh"]).toBe(1);
    const asked = [candidate("a"), candidate("fresh", { latencyMs: undefined, inFlight: 1 })];
    expect(shares(powerOfTwoChoices({ random: seeded() }), asked)["fresh"]).toBe(0);
  });
});

describe("roundRobin", () => {
  it("goes on from call to call", () => {
    const candidates = ["a", "b", "c"].map((id) => candidate(id));
    const strategy = roundRobin();
    expect([1, 2, 3, 4, 5].map(() => strategy(candidates).node.id)).toEqual(["a", "b", "c", "a", "b"]);
  });
});

describe("strategyByName", () => {
  it("names what it knows when asked for something else", () => {
    expect(() => strategyByName("fastest" as StrategyName)).toThrow(/use powerOfTwoChoices, random, roundRobin/);
  });
});

describe("filters", () => {
  const service = record("greeter", [{ id: "a", address: "10.0.0.1:80", metadata: { zone: "x" } }], "2.0.0");
  const node = service.nodes[0]!;
  it.each([
    ["version", filterVersion("2.0.0"), filterVersion("2.0")],
    ["label", filterLabel("zone", "x"), filterLabel("zone", "y")],
    ["a label's key", filterLabel("zone", "x"), filterLabel("constructor", "x")],
    ["endpoint", filterEndpoint("Greeter.Hello"), filterEndpoint("Greeter.Bye")],
    ["address", filterAddress("1.1.1.1:1", "10.0.0.1:80"), filterAddress("10.0.0.1:8")],
  ])("keep or leave out by %s", (_name, keeps, leaves) => {
    expect(keeps(node, service)).toBe(true);
    expect(leaves(node, service)).toBe(false);
  });

  it("are called by what they look for", () => {
    expect(filterVersion("2.0.0").name).toBe("version=2.0.0");
    expect(filterLabel("zone", "x").name).toBe("label zone=x");
  });
});
