/** The texts of `--help` and `--version`. */
import { flagVariables } from "./flags.ts";
import type { FlagDefinition } from "./flags.ts";

/** Defaults of go-micro's flags, for the help text only: they are those of `createService()`. */
export interface HelpInput {
  readonly name: string;
  readonly version: string;
  readonly definitions: Iterable<FlagDefinition>;
  /** Names of the program's own and its plugins' flags, listed first. */
  readonly own: ReadonlySet<string>;
  /** Default of a flag by name, as text, where the service has one. */
  readonly defaults: ReadonlyMap<string, string>;
}

const otherVariables: readonly (readonly [string, string])[] = [
  ["MICRO_LOG_LEVEL", "Lowest level logged: trace, debug, info, warn, error or fatal (default: info)"],
  ["MICRO_LOG_FORMAT", "How records are written: go, or json for collectors (default: go)"],
  ["MICRO_TLS_INSECURE", "true: certificates of other nodes are not verified (default: false)"],
];

/** One line per flag: name, purpose, variable, default. */
export function helpText(input: HelpInput): string {
  const shown = [...input.definitions].filter((flag) => !flag.hidden);
  const lines = (flags: readonly FlagDefinition[]) =>
    columns(flags.map((flag) => [flagTitle(flag), flagPurpose(flag, input.defaults)] as const));
  const own = shown.filter((flag) => input.own.has(flag.name));
  const sections = [
    `NAME:\n   ${input.name} - a micro service`,
    `USAGE:\n   ${input.name} [flags] [arguments...]`,
    `VERSION:\n   ${input.version}`,
    ...(own.length > 0 ? [`FLAGS:\n${lines(own)}`] : []),
    `SERVICE FLAGS:\n${lines(shown.filter((flag) => !input.own.has(flag.name)))}`,
    `VARIABLES:\n${columns(otherVariables)}`,
  ];
  return `${sections.join("\n\n")}\n`;
}

function flagTitle(flag: FlagDefinition): string {
  return flag.type === "boolean" ? `--${flag.name}` : `--${flag.name} value`;
}

function flagPurpose(flag: FlagDefinition, defaults: ReadonlyMap<string, string>): string {
  const fallback = flag.default ?? defaults.get(flag.name);
  const variables = flagVariables(flag).map((variable) => `$${variable}`);
  return [
    flag.usage ?? "",
    fallback === undefined || fallback === "" ? "" : `(default: ${fallback})`,
    variables.length > 0 ? `[${variables.join(", ")}]` : "",
  ]
    .filter((part) => part !== "")
    .join(" ");
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([title]) => title.length));
  return rows.map(([title, purpose]) => `   ${title.padEnd(width)}  ${purpose}`.trimEnd()).join("\n");
}
