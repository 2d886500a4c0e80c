/** How a scenario ends, and the checks it is made of. */
import assert from "node:assert/strict";
import { MicroError } from "@micro/core";
import type { Column, Generation } from "./pair.ts";
import type { Line } from "./go-process.ts";

/** Go cannot do it, which was asserted: the day it can, the scenario fails and is to be rewritten. */
export class GoCannot {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

/** `skip` where there is nothing to test in a column. */
export type Outcome = void | GoCannot;

export interface Scenario {
  readonly name: string;
  /** A Go client calls our service. */
  readonly goToTs?: (column: Column) => Promise<Outcome>;
  /** Our client calls a Go service. */
  readonly tsToGo?: (column: Column) => Promise<Outcome>;
  /** Where the way of finding makes no difference or is the point itself. Default: both. */
  readonly via?: "mdns" | "address";
  /** Generations that have what it is about. Default: all. */
  readonly generations?: readonly Generation[];
}

/** A Go client's result that must be a success. */
export function succeeded(line: Line): Line {
  assert.equal(line["ok"], true, `the Go client failed: ${JSON.stringify(line)}`);
  return line;
}

/** The error of a Go client's result that must be a failure. */
export function failed(line: Line): { id: string; code: number; detail: string; status: string; text: string } {
  assert.equal(line["ok"], false, `the Go client succeeded: ${JSON.stringify(line)}`);
  assert.ok(line["error"] !== undefined, `no error: ${JSON.stringify(line)}`);
  return line["error"] as ReturnType<typeof failed>;
}

/** The error of our own call, which must fail. */
export async function rejected(call: Promise<unknown>): Promise<MicroError> {
  let value: unknown;
  try {
    value = await call;
  } catch (error) {
    assert.ok(MicroError.is(error), `not a MicroError: ${error instanceof Error ? error.stack : String(error)}`);
    return error;
  }
  return assert.fail(`the call succeeded with ${JSON.stringify(value)?.slice(0, 500)}`);
}

/** True if lower <= value <= upper, else an error that says what it is. */
export function between(what: string, value: number, lower: number, upper: number): void {
  assert.ok(value >= lower && value <= upper, `${what} is ${value}, expected ${lower} to ${upper}`);
}
