/** Integers in decimal texts, digit by digit: a number has not enough of them. */

const numeral = /^(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** More digits than any integer of 64 bits has. */
const mostDigits = 20;

/** The integer that a numeral of JSON is, `1.5e3` say; undefined for what is none. One that is in no range may be another one. */
export function integerOf(text: string): bigint | undefined {
  const match = numeral.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = "", fraction = "", power = "0"] = match;
  const digits = whole + fraction;
  let from = 0;
  while (digits[from] === "0") from++;
  let to = digits.length;
  while (to > from && digits[to - 1] === "0") to--;
  if (from === to) return 0n;
  // What is behind the last digit that counts: zeros, or the point.
  const zeros = digits.length - to - fraction.length + Number(power);
  if (zeros < 0) return undefined;
  const size = to - from + zeros;
  const found = size > mostDigits ? 10n ** BigInt(mostDigits) : BigInt(digits.slice(from, to) + "0".repeat(zeros));
  return sign === "-" ? -found : found;
}
