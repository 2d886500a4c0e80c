/** Text for a terminal. */

/** Control characters, and what turns the direction of text around: they would make a terminal do or show something else. */
// oxlint-disable-next-line no-control-regex
const unsafe = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]/g;

/** Text in which names from outside may be: what a terminal would obey is shown as `\u001b`. Lines and tabs stay. */
export function printable(text: string): string {
  return text.replaceAll(unsafe, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** True for a name with which nothing can be shown as it is. */
export function isPrintable(name: string): boolean {
  return !/[\n\t]/.test(name) && printable(name) === name;
}
