/**
 * A copy that shares nothing. Engines make a slice of a text, a header's value of its head, by pointing into it: whoever keeps
 * the slice keeps the whole text. What is kept for longer than the message it came with is copied.
 */
export function ownText(text: string): string {
  // oxlint-disable-next-line no-control-regex
  const encoding = /^[\0-\xff]*$/.test(text) ? "latin1" : "utf16le";
  return Buffer.from(text, encoding).toString(encoding);
}
