/** Well-known types whose JSON is a text: `Timestamp`, `Duration`, `FieldMask`. */
import { inside } from "./json.ts";
import { scalarFromJson, textOf } from "./json-scalars.ts";
import { isMessage } from "./plain.ts";
import type { SpecialJson } from "./proto-type.ts";
import { int64Of } from "./scalars.ts";
import { shown, wrong } from "./wrong.ts";

interface Seconds {
  seconds: bigint;
  nanos: number;
}

/** `0001-01-01T00:00:00Z` and `9999-12-31T23:59:59Z`. */
const firstSecond = -62_135_596_800n;
const lastSecond = 253_402_300_799n;
const mostSeconds = 315_576_000_000n;

/** Up to v5.13 Go writes the message as it is. */
function secondsOfGo(value: unknown, what: string): Seconds {
  if (!isMessage(value)) throw wrong(value, what);
  const result: Seconds = { seconds: 0n, nanos: 0 };
  for (const [key, member] of Object.entries(value)) {
    if (key === "seconds") result.seconds = scalarFromJson("int64", member, "bigint") as bigint;
    else if (key === "nanos") result.nanos = scalarFromJson("int32", member, undefined) as number;
    else throw inside(key, wrong(value, what));
  }
  return result;
}

/** None, three, six or nine digits. */
function fraction(nanos: number): string {
  const digits = Math.abs(nanos)
    .toString()
    .padStart(9, "0")
    .replace(/(?:000){1,3}$/, "");
  return digits === "" ? "" : `.${digits}`;
}

const dateTime = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))$/;

function timestampFromText(text: string): Seconds {
  const match = dateTime.exec(text);
  if (match === null) throw wrong(text, "a time such as 2006-01-02T15:04:05Z");
  const [, year, month, day, hour, minute, second, digits = "", sign, offsetHour = "0", offsetMinute = "0"] = match;
  const date = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // Not every engine refuses the 30th of February.
  if (Number.isNaN(date.getTime()) || date.getUTCDate() !== Number(day) || date.getUTCHours() !== Number(hour))
    throw wrong(text, "a time that exists");
  if (Number(offsetHour) > 23 || Number(offsetMinute) > 59) throw wrong(text, "a time that exists");
  const offset = (Number(offsetHour) * 60 + Number(offsetMinute)) * 60 * (sign === "-" ? -1 : 1);
  const seconds = BigInt(date.getTime() / 1000 - offset);
  if (seconds < firstSecond || seconds > lastSecond) throw wrong(text, "a time of the years 1 to 9999");
  return { seconds, nanos: Number(digits.padEnd(9, "0")) };
}

export const timestampJson: SpecialJson<Seconds> = {
  read: (value) => (typeof value === "string" ? timestampFromText(value) : checkedTime(secondsOfGo(value, "a time"))),
  write(message) {
    const { seconds, nanos } = checkedTime(complete(message));
    return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}${fraction(nanos)}Z`;
  },
};

function checkedTime(time: Seconds): Seconds {
  const { seconds, nanos } = time;
  if (seconds < firstSecond || seconds > lastSecond) throw new TypeError("the time is not in the years 1 to 9999");
  if (nanos < 0 || nanos > 999_999_999) throw new TypeError(`${nanos} nanoseconds are not part of a second`);
  return time;
}

function complete(message: Partial<Seconds>): Seconds {
  const seconds = message.seconds ?? 0n;
  const nanos = message.nanos ?? 0;
  if (typeof nanos !== "number" || nanos !== (nanos | 0)) throw inside("nanos", wrong(nanos, "an int32"));
  try {
    return { seconds: int64Of(seconds, true), nanos };
  } catch (error) {
    throw inside("seconds", error);
  }
}

export const durationJson: SpecialJson<Seconds> = {
  read(value) {
    if (typeof value !== "string") return checkedDuration(secondsOfGo(value, "a duration"));
    const match = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(value);
    if (match === null) throw wrong(value, "a duration such as 1.5s");
    const [, sign, whole = "", digits = ""] = match;
    const seconds = BigInt(whole);
    const nanos = Number(digits.padEnd(9, "0"));
    if (seconds > mostSeconds) throw new TypeError(`${shown(value)} is more than 10 000 years`);
    return sign === "-" ? { seconds: -seconds, nanos: nanos === 0 ? 0 : -nanos } : { seconds, nanos };
  },
  write(message) {
    const { seconds, nanos } = checkedDuration(complete(message));
    const sign = seconds < 0n || nanos < 0 ? "-" : "";
    return `${sign}${seconds < 0n ? -seconds : seconds}${fraction(nanos)}s`;
  },
};

function checkedDuration(duration: Seconds): Seconds {
  const { seconds, nanos } = duration;
  if (seconds > mostSeconds || seconds < -mostSeconds) throw new TypeError("the duration is more than 10 000 years");
  if (Math.abs(nanos) > 999_999_999 || (seconds > 0n && nanos < 0) || (seconds < 0n && nanos > 0))
    throw new TypeError("seconds and nanoseconds of a duration have the same sign, and nanoseconds are part of one");
  return duration;
}

/** As in Go: names of fields with points between them, and no others. */
const maskPath = /^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/;

export const fieldMaskJson: SpecialJson<{ paths: string[] }> = {
  read(value) {
    if (typeof value === "object" && value !== null && "paths" in value && Array.isArray(value.paths))
      return { paths: value.paths.map((path) => scalarFromJson("string", path, undefined) as string) };
    if (typeof value !== "string") throw wrong(value, "a field mask, such as name,address.zipCode");
    if (value === "") return { paths: [] };
    return {
      paths: value.split(",").map((path) => {
        if (path.includes("_") || !maskPath.test(path))
          throw wrong(value, "a field mask, such as name,address.zipCode");
        return path.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      }),
    };
  },
  write(message) {
    const paths: unknown = message.paths ?? [];
    if (!Array.isArray(paths)) throw inside("paths", wrong(paths, "an array"));
    const texts: string[] = [];
    // Not by `map`, which passes over what is missing in between.
    for (const [index, path] of paths.entries()) {
      try {
        texts.push(pathInJson(textOf(path)));
      } catch (error) {
        throw inside("paths", inside(index, error));
      }
    }
    return texts.join(",");
  },
};

/** @throws {TypeError} for a path that would be another one for whoever reads it, or none */
function pathInJson(path: string): string {
  const camel = path.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const isWhole = camel.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) === path;
  if (!isWhole || camel.includes("_") || !maskPath.test(path))
    throw new TypeError(
      `the path ${shown(path)} of a field mask has no JSON: write names of fields as in the .proto file, as in zip_code`,
    );
  return camel;
}
