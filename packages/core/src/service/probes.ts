/** What the port answers to probes, where the option `probes` asks for it. */
import type { PlainReply, PlainRequest } from "../transport/transport.ts";

/** Paths of the probes. */
export interface ProbeOptions {
  /** Answers 200 as long as the process answers at all. Default: `/healthz`. */
  readonly live?: string | undefined;
  /** Answers 200 while the service is ready, 503 before, after, and while its registration is lost. Default: `/readyz`. */
  readonly ready?: string | undefined;
}

/** Answers for `ListenOptions.plain`. They say nothing of the service but its state. */
export function probeAnswers(
  { live = "/healthz", ready = "/readyz" }: ProbeOptions,
  isReady: () => boolean,
): (request: PlainRequest) => PlainReply | undefined {
  const answers: Readonly<Record<"ok" | "not", PlainReply>> = {
    ok: { status: 200, body: '{"status":"ok"}\n' },
    not: { status: 503, body: '{"status":"not ready"}\n' },
  };
  return ({ path }) => {
    if (path === live) return answers.ok;
    if (path === ready) return isReady() ? answers.ok : answers.not;
    return undefined;
  };
}
