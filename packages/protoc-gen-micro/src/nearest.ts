/** What somebody may have meant who wrote a name that is none. */

/** The known name that is next to a wrong one, if it is near enough to be meant. */
export function nearestName(wrong: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Math.max(1, Math.floor(wrong.length / 3)) + 1;
  for (const name of known) {
    const distance = plain(name) === plain(wrong) ? 0 : distanceOf(plain(wrong), plain(name), least);
    if (distance < least) {
      best = name;
      least = distance;
    }
  }
  return best;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]/g, "");
}

/** ` (did you mean x?)`, or nothing. */
export function suggestion(wrong: string, known: Iterable<string>, shown = (name: string): string => name): string {
  const near = nearestName(wrong, known);
  return near === undefined ? "" : ` (did you mean ${shown(near)}?)`;
}

/** Characters to change, add, leave out or swap with the next; `limit` for that many and more. */
function distanceOf(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(row[j - 1]! + 1, last[j]! + 1, replaced);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, beforeLast[j - 2]! + 1);
      row.push(least);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}
