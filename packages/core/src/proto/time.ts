/** Between `google.protobuf.Timestamp` and `Date`, which has milliseconds only. */
import type { Timestamp } from "./gen/timestamp.ts";

/** A time as a `Timestamp`. @throws {RangeError} if the date is invalid */
export function timestampOf(date: Date): Timestamp {
  const time = date.getTime();
  if (Number.isNaN(time)) throw new RangeError("timestampOf: the date is invalid");
  const seconds = Math.floor(time / 1000);
  return { seconds: BigInt(seconds), nanos: (time - seconds * 1000) * 1_000_000 };
}

/** A `Timestamp` as a `Date`: what is smaller than a millisecond is cut off. */
export function dateOf(timestamp: Timestamp): Date {
  return new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1_000_000));
}
