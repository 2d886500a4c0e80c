/** Anything may be thrown; logs and callers want words. */

/** What was thrown, in words. Anything may be: nothing, a text, an object without one. */
export function thrownText(thrown: unknown): string {
  try {
    if (typeof thrown === "string" && thrown !== "") return thrown;
    if (typeof thrown === "object" && thrown !== null) {
      const { message, name } = thrown as Partial<Error>;
      if (typeof message === "string" && message !== "") return message;
      if (thrown instanceof Error) return typeof name === "string" && name !== "" ? name : "Error";
      const given: unknown = Object.getPrototypeOf(thrown)?.constructor?.name;
      return typeof given === "string" && given !== "" && given !== "Object"
        ? `a ${given} was thrown`
        : "an object that is no error was thrown";
    }
    return typeof thrown === "string" ? "an empty text was thrown" : `${String(thrown)} was thrown`;
  } catch {
    return "the handler threw a value that has no text";
  }
}
