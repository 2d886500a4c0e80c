/** The first bytes of both sides: which versions they speak, and their limits. */
import { readUint16, readUint32, writeUint16, writeUint32 } from "./frames.ts";

/** Announced in node metadata as `wire`. */
export const fastWireName = "micro/1";
export const wireVersion = 1;

/** What one side takes. */
export interface WireSettings {
  readonly maxMessageBytes: number;
  readonly maxHeaderBytes: number;
  readonly maxExchanges: number;
  readonly maxDictionaryIds: number;
  /** A bit each for what the sender understands beside the first form of this version; see {@link extension}. */
  readonly extensions: number;
}

/** What one side may only use where the other says that it understands it. */
export const extension = {
  /** The flag of OPEN that says that the address came from a look-up of the service. */
  lookedUp: 1,
} as const;

/** All that this library understands. */
export const ownExtensions: number = extension.lookedUp;

export interface Preface {
  readonly lowest: number;
  readonly highest: number;
  readonly chosen: number;
  readonly settings: WireSettings;
}

const magic = Buffer.from("\0micro\r\n", "latin1");
const fixedBytes = magic.length + 6;
const maxSettingsBytes = 1024;
const settingBytes = 5;

export const defaultSettings: WireSettings = {
  maxMessageBytes: 64 * 1024 * 1024,
  maxHeaderBytes: 64 * 1024,
  maxExchanges: 1_000,
  maxDictionaryIds: 1024,
  extensions: 0,
};

export function encodePreface(preface: Preface): Buffer {
  const { maxMessageBytes, maxHeaderBytes, maxExchanges, maxDictionaryIds, extensions } = preface.settings;
  const values = [maxMessageBytes, maxHeaderBytes, maxExchanges, maxDictionaryIds, extensions];
  const bytes = Buffer.alloc(fixedBytes + values.length * settingBytes);
  magic.copy(bytes);
  bytes[8] = preface.lowest;
  bytes[9] = preface.highest;
  bytes[10] = preface.chosen;
  writeUint16(bytes, 12, values.length * settingBytes);
  values.forEach((value, index) => {
    const at = fixedBytes + index * settingBytes;
    bytes[at] = index + 1;
    writeUint32(bytes, at + 1, Math.min(value, 0xffff_ffff));
  });
  return bytes;
}

/** What a listener says that speaks no version of the client's. */
export function refusingPreface(): Buffer {
  return encodePreface({ lowest: wireVersion, highest: wireVersion, chosen: 0, settings: defaultSettings });
}

/** True while `bytes` may be the beginning of a preface. */
export function beginsPreface(bytes: Uint8Array): boolean {
  const length = Math.min(bytes.length, magic.length);
  for (let at = 0; at < length; at++) if (bytes[at] !== magic[at]) return false;
  return length > 0;
}

/**
 * Read a preface at the beginning of `bytes`.
 * @returns the preface and its length; undefined while it is incomplete. @throws {Error} if it is none.
 */
export function parsePreface(bytes: Uint8Array): { preface: Preface; length: number } | undefined {
  if (!beginsPreface(bytes)) throw new Error("these bytes are no preface");
  if (bytes.length < fixedBytes) return undefined;
  const settingsBytes = readUint16(bytes, 12);
  if (settingsBytes > maxSettingsBytes || settingsBytes % settingBytes !== 0)
    throw new Error(`${settingsBytes} bytes of settings`);
  const length = fixedBytes + settingsBytes;
  if (bytes.length < length) return undefined;
  const [lowest = 0, highest = 0, chosen = 0] = bytes.subarray(8, 11);
  if (lowest === 0 || highest < lowest) throw new Error(`versions ${lowest} to ${highest}`);
  let { maxMessageBytes, maxHeaderBytes, maxExchanges, maxDictionaryIds, extensions } = defaultSettings;
  for (let at = fixedBytes; at < length; at += settingBytes) {
    const value = readUint32(bytes, at + 1);
    if (bytes[at] === 1) maxMessageBytes = Math.max(1, value);
    else if (bytes[at] === 2) maxHeaderBytes = Math.max(256, value);
    else if (bytes[at] === 3) maxExchanges = value;
    else if (bytes[at] === 4) maxDictionaryIds = Math.min(0xffff, value);
    else if (bytes[at] === 5) extensions = value;
  }
  return {
    preface: {
      lowest,
      highest,
      chosen,
      settings: { maxMessageBytes, maxHeaderBytes, maxExchanges, maxDictionaryIds, extensions },
    },
    length,
  };
}
