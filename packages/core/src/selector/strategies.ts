/** Strategies: which of the nodes that may be used gets the call. */
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { Candidate, Strategy, StrategyName } from "./selector.ts";

/** Settings of the strategies that draw lots. */
export interface StrategyOptions {
  /** Numbers in [0, 1). Default: `Math.random`. */
  random?: (() => number) | undefined;
}

const optionNames: OptionNames<StrategyOptions> = { random: optionKinds.function };

// What a node without a known latency is taken to need while its first answer is under way, in milliseconds.
const unknownLatencyMs = 1_000;

// Nodes of about the same cost share the calls; without this, the slightly slower one of two would get none.
const clearlyLess = 0.8;
const shortestLatencyMs = 1;

/**
 * Two nodes drawn at random, of which the one that will probably answer sooner is taken: latency × (attempts running
 * + 1). Spreads load nearly as well as asking all of them, at the cost of two (Mitzenmacher, "The Power of Two
 * Choices in Randomized Load Balancing"). A node that has never answered is tried once before others, and gets little
 * more until it has.
 */
export function powerOfTwoChoices(options: StrategyOptions = {}): Strategy {
  checkOptionNames("powerOfTwoChoices", options, optionNames);
  const { random = Math.random } = options;
  return (candidates) => {
    const count = candidates.length;
    if (count === 1) return candidates[0]!;
    const first = Math.floor(random() * count);
    // Anything but `first`, all equally likely.
    const second = (first + 1 + Math.floor(random() * (count - 1))) % count;
    const one = candidates[first]!;
    const other = candidates[second]!;
    const oneYields = yields(one, random);
    const otherYields = yields(other, random);
    if (oneYields !== otherYields) return oneYields ? other : one;
    return cost(other) < cost(one) * clearlyLess ? other : one;
  };
}

/** Any node, all equally likely. Go's `Random`. */
export function randomChoice(options: StrategyOptions = {}): Strategy {
  checkOptionNames("randomChoice", options, optionNames);
  const { random = Math.random } = options;
  return (candidates) => {
    let chosen = candidates[Math.floor(random() * candidates.length)]!;
    for (let draw = 1; draw < 4 && yields(chosen, random); draw++)
      chosen = candidates[Math.floor(random() * candidates.length)]!;
    return chosen;
  };
}

/**
 * One node after the other. Unlike Go's `RoundRobin`, which starts at a random place for every call, the order goes
 * on from call to call. Make one per service: calls to another service would advance it, too.
 */
export function roundRobin(options: StrategyOptions = {}): Strategy {
  checkOptionNames("roundRobin", options, optionNames);
  const { random = Math.random } = options;
  let next = 0;
  return (candidates) => {
    let chosen = candidates[next++ % candidates.length]!;
    for (let skipped = 1; skipped < candidates.length && yields(chosen, random); skipped++)
      chosen = candidates[next++ % candidates.length]!;
    if (next >= Number.MAX_SAFE_INTEGER / 2) next = 0;
    return chosen;
  };
}

/**
 * A new strategy by its name.
 * @throws {TypeError} for an unknown name.
 */
export function strategyByName(name: StrategyName, options?: StrategyOptions): Strategy {
  switch (name) {
    case "powerOfTwoChoices":
      return powerOfTwoChoices(options);
    case "random":
      return randomChoice(options);
    case "roundRobin":
      return roundRobin(options);
    default:
      throw new TypeError(
        `unknown strategy ${JSON.stringify(name)}: use powerOfTwoChoices, random, roundRobin or a function`,
      );
  }
}

/** A node on its way back takes its share of the calls only. */
function yields(candidate: Candidate, random: () => number): boolean {
  const { weight } = candidate;
  return weight < 1 && random() >= weight;
}

function cost(candidate: Candidate): number {
  const { latencyMs, inFlight } = candidate;
  if (latencyMs !== undefined) return Math.max(latencyMs, shortestLatencyMs) * (inFlight + 1);
  return inFlight === 0 ? 0 : unknownLatencyMs * (inFlight + 1);
}
