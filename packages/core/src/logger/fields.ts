/** Fields of a record as somebody gave them: a logger must not fail, whatever they are. */
import { thrownText } from "../thrown.ts";
import type { LogFields } from "./logger.ts";

/** Read one by one: a getter may fail, and the others are told all the same. */
export function* readFields(fields: LogFields | null | undefined): Generator<[string, unknown]> {
  let names: string[];
  try {
    names = Object.keys(fields ?? {});
  } catch (error) {
    yield ["fields", unreadable(error)];
    return;
  }
  for (const name of names) {
    let value: unknown;
    try {
      value = fields?.[name];
    } catch (error) {
      value = unreadable(error);
    }
    yield [name, value];
  }
}

/** The types say a text; programs without types pass what they have. */
export function messageText(message: unknown): string {
  try {
    return String(message);
  } catch (error) {
    return unreadable(error);
  }
}

/** In place of a value that cannot be shown. */
export function unreadable(error: unknown): string {
  return `[cannot be read: ${thrownText(error)}]`;
}
