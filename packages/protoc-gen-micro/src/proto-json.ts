/**
 * Where ts-proto's JSON is not proto3 JSON, so that messages would be refused by Go or change on their way. Each edit
 * looks for ts-proto's exact text; code that has another one is left as it is.
 */
import type { GenerateOptions } from "./options.ts";

/** Make generated messages read and write what Go's protobuf libraries do. */
export function asProtoJson(file: string, content: string, options: GenerateOptions): string {
  const wellKnown = /(?:^|\/)google\/protobuf\/(duration|field_mask)[^/]*$/.exec(file)?.[1];
  const edited = wrappedBytes(booleanKeys(unknownEnumNumbers(content)));
  if (wellKnown === "duration") return durations(edited, options);
  return wellKnown === "field_mask" ? fieldMasks(edited) : edited;
}

/**
 * Let numbers of enums without a name here pass through, as they pass through protobuf. ts-proto reads them as -1 and
 * writes `"UNRECOGNIZED"`, which no Go service reads.
 */
function unknownEnumNumbers(content: string): string {
  return content
    .replaceAll(
      /( {4}default:\n {6}return )(\w+\.UNRECOGNIZED);/g,
      (_, before: string, unrecognized: string) =>
        `${before}typeof object === "number" ? (object as any) : ${unrecognized};`,
    )
    .replaceAll(
      /^(export function \w+ToJSON\(object: \w+\): )string( \{\n(?: {2,}.*\n)*? {4}default:\n {6}return )"UNRECOGNIZED";/gm,
      (_, before: string, middle: string) => `${before}string | number${middle}object;`,
    );
}

/** Keys of maps by bool are the texts `true` and `false`; ts-proto takes any text for true. */
function booleanKeys(content: string): string {
  return content.replaceAll("acc.set(globalThis.Boolean(key), ", 'acc.set(key === "true", ');
}

/** The bytes of a `BytesValue` are base64; ts-proto makes no bytes at all of a text. */
function wrappedBytes(content: string): string {
  return content.replaceAll(
    /\bnew Uint8Array\((object\.\w+|e)\)/g,
    (_, value: string) => `BytesValue.fromJSON({ value: ${value} }).value`,
  );
}

/** The paths of a field mask are in lowerCamel; ts-proto leaves them as they are in protobuf. */
function fieldMasks(content: string): string {
  return content
    .replace(
      'object.split(",").filter(globalThis.Boolean)',
      'object.split(",").filter(globalThis.Boolean).map((path) => path.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`))',
    )
    .replace(
      'message.paths.join(",")',
      'message.paths.map((path) => path.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase())).join(",")',
    );
}

const secondsFromText: Readonly<Record<GenerateOptions["int64"], string>> = {
  bigint: "BigInt(text)",
  number: "globalThis.Number(text)",
  string: "text",
  long: "Long.fromString(text)",
};

/** A duration is a text such as `1.5s`; ts-proto has an object, which Go writes in some versions and reads in none. */
function durations(content: string, { int64 }: GenerateOptions): string {
  const fromJson = "  fromJSON(object: any): Duration {\n";
  const toJson = /( {2}toJSON\(message: Duration\): unknown \{\n)[^]*?\n( {2}\},\n)/;
  if (!content.includes(fromJson) || !toJson.test(content)) return content;
  const edited = content
    .replace(
      fromJson,
      `${fromJson}    if (typeof object === "string") {\n      return durationFromText(object);\n    }\n`,
    )
    .replace(toJson, "$1    return durationToText(message);\n$2");
  return `${edited}
function durationToText(message: Duration): string {
  const seconds = message.seconds.toString();
  const nanos = Math.abs(message.nanos).toString().padStart(9, "0").replace(/(?:000){1,3}$/, "");
  const sign = seconds.startsWith("-") || message.nanos < 0 ? "-" : "";
  return \`\${sign}\${seconds.replace("-", "")}\${nanos === "" ? "" : \`.\${nanos}\`}s\`;
}

function durationFromText(duration: string): Duration {
  const [, sign = "", whole = "", fraction = ""] = /^(-?)(\\d{1,12})(?:\\.(\\d{1,9}))?s$/.exec(duration) ?? [];
  if (whole === "") {
    throw new globalThis.Error(\`\${JSON.stringify(duration)} is not a duration\`);
  }
  const text = /[1-9]/.test(whole) ? sign + whole : "0";
  const nanos = globalThis.Number(fraction.padEnd(9, "0"));
  return Duration.fromPartial({ seconds: ${secondsFromText[int64]}, nanos: sign === "-" && nanos !== 0 ? -nanos : nanos });
}
`;
}
