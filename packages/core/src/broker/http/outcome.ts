/** What became of handing a message to one subscription. */

/**
 * `accepted`: it has it. `gone`: there is no such subscription any more. `refused`: nobody could be connected to, so
 * nothing was sent. `busy`: it has no room now. `failed`: the connection was lost, or the answer is an error; it may
 * have the message. `impossible`: it will never take this message. `late`: no answer in time; where that was `blocked`, this
 * process was busy when the time passed, and nobody is to blame.
 */
export type Outcome =
  | { readonly kind: "accepted" }
  | { readonly kind: "gone" }
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "busy" }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "impossible"; readonly reason: string; readonly code: "too_large" | "bad_request" }
  | { readonly kind: "late"; readonly blocked: boolean };

export const accepted: Outcome = Object.freeze({ kind: "accepted" });
export const gone: Outcome = Object.freeze({ kind: "gone" });
export const busy: Outcome = Object.freeze({ kind: "busy" });
export const late: Outcome = Object.freeze({ kind: "late", blocked: false });
export const lateHere: Outcome = Object.freeze({ kind: "late", blocked: true });

/** The header line by which a subscription of ours is known: whoever else answers at its address is not it. */
export const receiverLine = "Micro-Broker: http\r\n";

/**
 * What an answer means that lacks {@link receiverLine} where a record promises a subscription of ours: a record has outlived
 * its process, and the port is somebody else's. Nothing of ours ran, and there is no such subscription. What a proxy says
 * of a subscription it cannot reach is another matter.
 */
export function foreignOutcome(status: number): Outcome {
  if (proxyStatuses.has(status)) return { kind: "failed", reason: `it answered ${status}` };
  return gone;
}

const proxyStatuses: ReadonlySet<number> = new Set([408, 429, 502, 503, 504]);

/** What an HTTP status means. Go's receivers always answer 200 to what they can read. */
export function outcomeOf(status: number, text: string): Outcome {
  if (status >= 200 && status < 300) return accepted;
  if (status === 404) return gone;
  if (status === 503) return busy;
  const reason = `it answered ${status}${text === "" ? "" : ` ${text}`}`;
  if (status === 413) return { kind: "impossible", code: "too_large", reason };
  if (status >= 400 && status < 500 && status !== 408 && status !== 429)
    return { kind: "impossible", code: "bad_request", reason };
  return { kind: "failed", reason };
}

/** For error texts. */
export function textOf(outcome: Outcome): string {
  switch (outcome.kind) {
    case "busy":
      return "it has no room for further messages";
    case "late":
      return outcome.blocked ? "this process was busy past the limit" : "it did not answer in time";
    case "gone":
      return "it has ended";
    case "accepted":
      return "it has the message";
    default:
      return outcome.reason;
  }
}
