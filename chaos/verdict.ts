/** What must hold however the fleet was treated. Each function gives the violations it found, as sentences. */
import { MicroError } from "@micro/core";
import type { BadEnd } from "./fleet.ts";
import type { Load, Outcome } from "./load.ts";
import type { Vitals } from "./service.ts";

/** Time a process on a busy machine may take beyond a deadline, stalls that were seen not counted. */
const lateMs = 250;
const healMs = 10_000;
const mayGrowBytes = 32 * 1024 * 1024;
const mayGrowHandles = 40;

export function deadlines(load: Load): string[] {
  return [...load.orders, ...load.events, ...load.streams].flatMap((outcome) => {
    const over = outcome.endedAt - outcome.startedAt - outcome.timeoutMs - load.stalledMs(outcome);
    return over > lateMs ? [`${outcome.id} ended ${Math.round(over)} ms after its deadline: ${reason(outcome)}`] : [];
  });
}

export function effectsOnce(load: Load, effects: ReadonlyMap<string, readonly string[]>): string[] {
  const succeeded = load.orders.filter(({ error }) => error === undefined);
  return (["reserved", "charged"] as const).flatMap((what) => {
    const counts = countsOf(effects.get(what) ?? []);
    const doubled = [...counts].filter(([, count]) => count > 1);
    const lost = succeeded.filter(({ id }) => !counts.has(id));
    return [
      ...doubled.map(([id, count]) => `${id} was ${what} ${count} times`),
      ...lost.map(({ id }) => `${id} succeeded and was never ${what}`),
      ...[...counts.keys()].filter((id) => id.startsWith("wrong:")).map((id) => `${what} under another's name: ${id}`),
    ];
  });
}

export function noStreamShort(load: Load): string[] {
  return load.streams.flatMap(({ id, error, got, asked, inOrder }) => {
    if (error === undefined && got !== asked) return [`${id} ended in good order after ${got} of ${asked} messages`];
    return inOrder ? [] : [`${id} had messages out of order`];
  });
}

/** Acknowledged events, and those of orders that succeeded, were handled at least once. */
export function eventsHandled(load: Load, effects: ReadonlyMap<string, readonly string[]>): string[] {
  const mailed = new Set(effects.get("mailed"));
  return [...load.events, ...load.orders]
    .filter(({ id, error }) => error === undefined && !mailed.has(id))
    .map(({ id }) => `${id} was acknowledged and never handled`);
}

/** From `healMs` after the last trouble on nothing fails. */
export function healed(load: Load, troublesEndedAt: number): string[] {
  return [...load.orders, ...load.events, ...load.streams]
    .filter(({ startedAt, error }) => startedAt > troublesEndedAt + healMs && error !== undefined)
    .map(
      (outcome) =>
        `${outcome.id} failed ${Math.round(outcome.startedAt - troublesEndedAt)} ms after the last trouble: ${reason(outcome)}`,
    );
}

/** Those that were there before the troubles and still are have their memory and handles back; there must be some. */
export function vitalsBack(
  before: ReadonlyMap<number, Vitals>,
  after: ReadonlyMap<number, Vitals & { readonly role: string }>,
): string[] {
  const survivors = [...after].filter(([pid]) => before.has(pid));
  if (survivors.length === 0) return ["no process lived from beginning to end: nothing can be said of any"];
  return survivors.flatMap(([pid, { role, heapBytes, handles }]) => {
    const had = before.get(pid)!;
    const found: string[] = [];
    if (heapBytes > had.heapBytes + mayGrowBytes)
      found.push(`${role} (${pid}) went from ${mebibytes(had.heapBytes)} to ${mebibytes(heapBytes)} MiB`);
    if (handles > had.handles + mayGrowHandles)
      found.push(`${role} (${pid}) went from ${had.handles} to ${handles} handles`);
    return found;
  });
}

export function goodEnds(ends: readonly BadEnd[], registered: readonly string[]): string[] {
  return [
    ...ends.map(({ role, how }) => `${role} ${how}`),
    ...registered.map((name) => `${name} is still registered after its end`),
  ];
}

/** Answers and refusals of services that were not asked: a port that has another owner is not the service of its record. */
export function wrongAnswers(load: Load): string[] {
  const refused = load.orders.filter((outcome) => /can't find (?:service|method)/.test(reason(outcome)));
  return [...load.wrong, ...refused.map((outcome) => `${outcome.id}: ${reason(outcome)}`)];
}

/** Failures by their reason, most frequent first: a report, no verdict. */
export function failures(outcomes: readonly Outcome[]): string[] {
  const counts = new Map<string, number>();
  for (const outcome of outcomes)
    if (outcome.error !== undefined) {
      const text = reason(outcome)
        .replaceAll(/[\w-]+-[\da-f]{8}-[\da-f-]{27}/g, "NODE")
        .replaceAll(/\d+(\.\d+)?/g, "N")
        .slice(0, 160);
      counts.set(text, (counts.get(text) ?? 0) + 1);
    }
  return [...counts].toSorted(([, a], [, b]) => b - a).map(([text, count]) => `${count} × ${text}`);
}

function reason({ error }: Outcome): string {
  if (error === undefined) return "";
  if (MicroError.is(error)) return `${error.code}: ${error.detail}`;
  return error instanceof Error ? error.message : JSON.stringify(error);
}

function countsOf(ids: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

function mebibytes(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1);
}
