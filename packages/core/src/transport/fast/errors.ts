/** What ends of exchanges and connections mean to those who wait for them. */
import { MicroError, type ErrorCode } from "../../errors.ts";
import { transportId } from "../http/dial.ts";
import { resetCode } from "./frames.ts";

const codes: Readonly<Record<number, ErrorCode>> = {
  [resetCode.tooLarge]: "too_large",
  [resetCode.protocol]: "protocol",
  [resetCode.flow]: "protocol",
  [resetCode.refused]: "unavailable",
  [resetCode.cancelled]: "unavailable",
  [resetCode.deadline]: "timeout",
};

/** What a caller gets whose exchange was reset, by the peer or because of what the peer sent. */
export function resetError(address: string, code: number, reason: string): MicroError {
  return new MicroError(`${address} ended the exchange: ${reason === "" ? `code ${code}` : reason}`, {
    id: transportId,
    code: codes[code] ?? "internal",
    notRun: code === resetCode.refused,
  });
}

/** What a handler's cancellation gets when its caller reset the exchange. */
export function callerReset(code: number, reason: string): MicroError {
  if (code === resetCode.deadline)
    return new MicroError("context deadline exceeded", { id: "go.micro.server", code: "timeout" });
  const why = reason === "" ? "" : `: ${reason}`;
  return new MicroError(`the caller cancelled${why}`, { id: transportId, code: "aborted" });
}

/** The peer takes no new exchanges: one that had been sent did not run. */
export function goingAway(address: string, reason: string): MicroError {
  return new MicroError(`${address} takes no more calls on this connection: ${reason === "" ? "closing" : reason}`, {
    id: transportId,
    code: "unavailable",
    notRun: true,
  });
}

export function connectionLost(address: string, why: string, notRun: boolean, cause: unknown): MicroError {
  return new MicroError(`connection to ${address} was lost before the reply came${why === "" ? "" : ` (${why})`}`, {
    id: transportId,
    code: "unavailable",
    notRun,
    cause,
  });
}
