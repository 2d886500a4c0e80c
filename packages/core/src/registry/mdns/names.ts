/** The DNS names of services, nodes and lists (go-micro `registry/mdns_registry.go`), and what may be in one. */
import { MicroError } from "../../errors.ts";
import { nameLabels, PacketError } from "./packet.ts";

/** Where a service is asked for. */
export function serviceName(service: string, domain: string): string {
  return `${service}.${domain}.`;
}

/** Dots in ids and service names separate labels, as in Go. */
export function instanceName(id: string, service: string, domain: string): string {
  return `${id}.${serviceName(service, domain)}`;
}

/** Where the names of all services are asked for. */
export function listName(domain: string): string {
  return `_services.${domain}.`;
}

export function listEntryName(service: string, domain: string): string {
  return `${service}.${listName(domain)}`;
}

/** Where DNS-SD browsers ask for what there is. */
export function enumerationName(domain: string): string {
  return `_services._dns-sd._udp.${domain}.`;
}

/** The part of `name` before `suffix`, the escapes of presentation form undone; undefined if it ends otherwise. */
export function partBefore(name: string, suffix: string): string | undefined {
  if (name.length <= suffix.length + 1 || !name.endsWith(`.${suffix}`)) return undefined;
  return nameLabels(name.slice(0, -suffix.length - 1))
    .map((label) => label.toString())
    .join(".");
}

/**
 * Refuse what cannot be looked up again: parts that are empty or too long, and characters that Go's DNS library
 * escapes, so that a Go peer would read another name than was registered.
 * @throws {MicroError} `bad_request` saying which name and why.
 */
export function checkName(what: string, text: string, full: string): void {
  const odd = /[^\x21-\x7e]|[ '@;()"\\]/u.exec(text)?.[0];
  if (odd !== undefined)
    throw refused(
      `${what} ${JSON.stringify(text)} contains ${JSON.stringify(odd)}, which go-micro cannot read in a DNS name`,
    );
  if (text === "" || text.startsWith(".") || text.endsWith(".") || text.includes(".."))
    throw refused(`${what} ${JSON.stringify(text)}: a part between dots is empty`);
  try {
    nameLabels(full);
  } catch (cause) {
    if (!(cause instanceof PacketError)) throw cause;
    throw refused(`${what} ${JSON.stringify(text)} cannot be a DNS name: ${cause.message}`, cause);
  }
}

/** @throws {MicroError} always: `bad_request`. */
export function refused(detail: string, cause?: unknown): MicroError {
  return new MicroError(detail, { id: "registry.mdns", code: "bad_request", cause });
}
