/** The TXT record of a node: JSON, zlib, hexadecimal text, cut into strings (go-micro `registry/mdns_registry.go`). */
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import { endpointsJson, escapeHtml, parseText, readEndpoints, readMap, readObject, readString } from "../record.ts";
import type { Endpoint, StringMap } from "../registry.ts";

/** What the TXT record says of a node; id and address come from other records. */
export interface NodeDescription {
  readonly service: string;
  readonly version: string;
  readonly endpoints: readonly Endpoint[];
  /** The node's metadata. */
  readonly metadata: StringMap;
}

// A datagram of hexadecimal text could inflate to some 30 MB.
const maxInflatedBytes = 1024 * 1024;
const maxStringLength = 255;

/** The strings of a TXT record, each but the last of 255 characters. */
export function encodeTxt(description: NodeDescription): string[] {
  const json = JSON.stringify({
    Service: description.service,
    Version: description.version,
    Endpoints: endpointsJson(description.endpoints),
    Metadata: description.metadata,
  });
  const text = builtin.zlib().deflateSync(escapeHtml(json)).toString("hex");
  const strings: string[] = [];
  for (let start = 0; start < text.length; start += maxStringLength)
    strings.push(text.slice(start, start + maxStringLength));
  return strings;
}

/**
 * Read the strings of a TXT record.
 * @throws {MicroError} `codec` for anything but a description of at most 1 MiB.
 */
export function decodeTxt(strings: readonly string[]): NodeDescription {
  const text = strings.join("");
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]+$/.test(text)) throw codecError("it is not hexadecimal text");
  let json: Buffer;
  try {
    json = builtin.zlib().inflateSync(Buffer.from(text, "hex"), { maxOutputLength: maxInflatedBytes });
  } catch (cause) {
    throw codecError("it cannot be inflated", cause);
  }
  const fields = readObject(parseText(json), "TXT");
  return {
    service: readString(fields.get("service"), "TXT.Service"),
    version: readString(fields.get("version"), "TXT.Version"),
    endpoints: readEndpoints(fields.get("endpoints"), "TXT.Endpoints"),
    metadata: readMap(fields.get("metadata"), "TXT.Metadata"),
  };
}

function codecError(reason: string, cause?: unknown): MicroError {
  return new MicroError(`TXT record of a node: ${reason}`, { id: "registry.mdns", code: "codec", cause });
}
