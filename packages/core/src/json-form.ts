/**
 * What becomes of a value on its way through JSON, as a type: dates arrive as text, what has no JSON form as nothing that
 * anybody could use. Types only.
 */

declare const notJson: unique symbol;

/** Stands where a value has no JSON form: a function, a symbol, a `Map`, a `Set`. Nothing can be done with it. */
export interface NotJson {
  readonly [notJson]: "this value has no JSON form";
}

/** The type of a value that was sent as JSON, on the other side. */
export type JsonForm<T> = 0 extends 1 & T
  ? T
  : unknown extends T
    ? T
    : T extends string | number | boolean | null | undefined | void
      ? T
      : T extends bigint | Uint8Array
        ? string
        : T extends ((...args: never[]) => unknown) | symbol | ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>
          ? NotJson
          : T extends { toJSON(...args: never[]): infer Json }
            ? JsonForm<Json>
            : T extends ArrayBufferView
              ? number[]
              : T extends readonly unknown[]
                ? { [Index in keyof T]: JsonForm<T[Index]> }
                : { [Key in keyof T as Key extends symbol ? never : Key]: JsonForm<T[Key]> };

/** What the receiver of an answer sees: nothing travels as an object without members. */
export type JsonAnswer<T> = [T] extends [undefined | void]
  ? 0 extends 1 & T
    ? T
    : void
  : JsonForm<T extends undefined ? Record<string, never> : T>;

/** True if what arrives is still what was sent: a validator on the other side can take it. */
export type SurvivesJson<T> = [JsonForm<T>] extends [T] ? true : false;
