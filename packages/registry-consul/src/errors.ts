/** Failures of Consul and on the way to it, as `MicroError`. */
import { MicroError, type ErrorCode } from "@micro/core";

export const source = "registry.consul";

/** An answer other than 2xx. */
export function fromStatus(what: string, status: number, text: string): MicroError {
  const said = text.trim().slice(0, 500);
  const fail = (code: ErrorCode, detail: string): MicroError =>
    new MicroError(`registry consul: ${what}: ${detail}`, { id: source, code });
  if (status === 403) return fail("forbidden", `Consul refused: see \`token\` and its policies (${said})`);
  if (status === 401) return fail("unauthorized", `Consul wants another \`token\` (${said})`);
  if (status === 404 || /Unknown (?:check|service)/i.test(said)) return fail("not_found", said);
  if (status === 400 || status === 413) return fail("bad_request", said);
  if (status === 429) return fail("unavailable", `Consul limits requests (${said})`);
  if (/No cluster leader|No path to datacenter/i.test(said))
    return fail(
      "unavailable",
      /leader/i.test(said)
        ? `Consul has no leader: most of its servers are away or have not found one another (${said})`
        : `no server of that datacenter is known: see \`datacenter\` (${said})`,
    );
  return fail(status >= 500 ? "unavailable" : "internal", `status ${status}: ${said}`);
}

/** A failure of the connection. */
export function fromConnection(what: string, cause: unknown): MicroError {
  if (MicroError.is(cause)) return cause;
  const error = cause as NodeJS.ErrnoException;
  // Node gives a list of failures, without a text of its own, where a name has several addresses.
  const text = error.message === "" && error.code !== undefined ? error.code : error.message;
  const tls =
    /certificate|self.signed|TLS|SSL|EPROTO|CERT_|wrong version number/i.test(`${error.code} ${text}`) ||
    error.code === "DEPTH_ZERO_SELF_SIGNED_CERT";
  const detail = tls ? `TLS failed, see \`tls\` (${text})` : advice(error.code, text);
  return new MicroError(`registry consul: ${what}: ${detail}`, { id: source, code: "unavailable", cause });
}

/** What whoever starts the program can look at. */
function advice(code: string | undefined, text: string): string {
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return `no such host: see \`addresses\`, or --registry_address (${text})`;
  if (code === "ECONNREFUSED")
    return `no Consul agent answers there: see \`addresses\`, or --registry_address (${text})`;
  return text;
}

export function closedError(): MicroError {
  return new MicroError("registry consul: the registry is closed", { id: source, code: "closed" });
}
