/** The TXT record of a node: JSON, zlib, hexadecimal text, cut into strings (go-micro `registry/mdns_registry.go`). */
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import { heldByJson } from "../held-bytes.ts";
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

/** A datagram of hexadecimal text could inflate to some 30 MB; no node has that much to say. */
export const maxInflatedBytes = 512 * 1024;
/** What a description may take once it is read. */
export const maxDescriptionBytes = 2 * 1024 * 1024;
const maxStringLength = 255;

/**
 * The strings of a TXT record, each but the last of 255 characters.
 * @throws {MicroError} `bad_request` for what {@link decodeTxt} would refuse.
 */
export function encodeTxt(description: NodeDescription): string[] {
  const json = JSON.stringify({
    Service: description.service,
    Version: description.version,
    Endpoints: endpointsJson(description.endpoints),
    Metadata: description.metadata,
  });
  const escaped = Buffer.from(escapeHtml(json));
  const tooLarge = escaped.length > maxInflatedBytes || heldByJson(JSON.parse(json), maxDescriptionBytes) < 0;
  if (tooLarge)
    throw new MicroError(
      `${description.service}: its endpoints and metadata are ${escaped.length} bytes; mdns carries ${maxInflatedBytes}, and what takes ${maxDescriptionBytes} in memory`,
      { id: "registry.mdns", code: "bad_request" },
    );
  const text = builtin.zlib().deflateSync(escaped).toString("hex");
  const strings: string[] = [];
  for (let start = 0; start < text.length; start += maxStringLength)
    strings.push(text.slice(start, start + maxStringLength));
  return strings;
}

/**
 * Read the strings of a TXT record. `spend` is told what that has cost, whether it succeeds or not.
 * @throws {MicroError} `codec` for anything but a description of at most 512 KiB that takes at most 2 MiB in memory.
 */
export function decodeTxt(strings: readonly string[], spend?: (bytes: number) => void): NodeDescription {
  const text = strings.join("");
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]+$/.test(text)) throw codecError("it is not hexadecimal text");
  let json: Buffer;
  try {
    json = builtin.zlib().inflateSync(Buffer.from(text, "hex"), { maxOutputLength: maxInflatedBytes });
  } catch (cause) {
    const tooLarge = (cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    spend?.(tooLarge ? maxInflatedBytes : text.length);
    throw codecError(tooLarge ? `it inflates to more than ${maxInflatedBytes} bytes` : "it cannot be inflated", cause);
  }
  // Parsing and reading cost more than inflating.
  spend?.(json.length * 4);
  const fields = readObject(parseText(json, maxDescriptionBytes), "TXT");
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
