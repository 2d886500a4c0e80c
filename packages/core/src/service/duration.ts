/** Durations in Go's syntax (`time.ParseDuration`), which flags and variables of go-micro use. */

const unitMs: ReadonlyMap<string, number> = new Map([
  ["ns", 1e-6],
  ["us", 1e-3],
  ["µs", 1e-3],
  ["μs", 1e-3],
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
]);

/**
 * Read `300ms`, `1.5s`, `-1h2m3.5s` or `0` as milliseconds.
 * @throws {TypeError} for anything else; a number needs a unit.
 */
export function parseDuration(text: string): number {
  const sign = text.startsWith("-") ? -1 : 1;
  let rest = text.replace(/^[+-]/, "");
  if (rest === "0") return 0;
  let total = 0;
  if (rest === "") throw wrong(text);
  while (rest !== "") {
    const [all, number = "", unit = ""] = /^(\d+\.?\d*|\.\d+)([^\d.]+)/.exec(rest) ?? [];
    const factor = unitMs.get(unit);
    if (all === undefined || factor === undefined) throw wrong(text);
    total += Number(number) * factor;
    rest = rest.slice(all.length);
  }
  return sign * total;
}

/** Milliseconds as Go prints a duration, e.g. `5s`, `1m0s`, `300ms`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 1000) return `${ms}ms`;
  const hours = Math.floor(ms / 3_600_000);
  const minutes = Math.floor((ms % 3_600_000) / 60_000);
  const seconds = `${(ms % 60_000) / 1000}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}

function wrong(text: string): TypeError {
  return new TypeError(`${JSON.stringify(text)} is no duration; write it as 5s, 300ms or 1h2m3.5s`);
}
