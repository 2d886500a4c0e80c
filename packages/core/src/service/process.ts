/** What the process was started with: plugins, variables and flags. Read once, by the first `init()`. */
import { parseLogFormat, parseLogLevel, type LogFormat } from "../logger/console-logger.ts";
import type { LogLevel } from "../logger/logger.ts";
import { pluginName } from "./aliases.ts";
import { formatDuration } from "./duration.ts";
import { applyServiceFlags, ignoredVariables, misspeltVariables, serviceFlagDefinitions } from "./flag-table.ts";
import { FlagValues, UsageError, checkFlagDefinitions, flagMap, parseFlags, scanFlag, splitList } from "./flags.ts";
import { helpText } from "./help.ts";
import type { ServiceOptions, ServiceSettings } from "./options.ts";
import { builtIn, pieceNames } from "./pieces.ts";
import { importPlugins } from "./plugins.ts";
import type { PluginTable } from "./plugins.ts";

/** What variables and flags say. */
export interface ProcessInput {
  readonly options: Partial<ServiceOptions>;
  /** What set an option: `--registry`, `MICRO_REGISTRY`. */
  readonly sources: ReadonlyMap<string, string>;
  readonly logLevel: LogLevel | undefined;
  readonly logFormat: LogFormat | undefined;
  readonly flags: FlagValues;
  readonly warnings: readonly string[];
  /** Text of `--help` or `--version`: to be printed instead of doing anything. */
  readonly output: string | undefined;
}

/**
 * Load the plugins of `--plugin` or `MICRO_PLUGIN` into `plugins`, then read variables and flags.
 * @throws {UsageError} for anything that cannot be used.
 * @throws {TypeError} for flags of the program that cannot be defined.
 */
export async function readProcess(settings: ServiceSettings, plugins: PluginTable): Promise<ProcessInput> {
  const args = settings.args ?? process.argv.slice(2);
  const env = settings.env ?? process.env;
  await loadPlugins(args, env, plugins);
  await loadChosen(settings, args, env, plugins);

  const own = [...settings.flags, ...plugins.flags()];
  checkFlagDefinitions(own);
  const definitions = flagMap([...own, ...serviceFlagDefinitions(own)]);
  const flags = parseFlags(definitions, args, env);
  const asked = (name: string) => !own.some((flag) => flag.name === name) && flags.boolean(name);
  let output: string | undefined;
  if (asked("help") || asked("h"))
    output = helpText({
      name: settings.name,
      version: settings.version,
      definitions: definitions.values(),
      own: new Set(own.map((flag) => flag.name)),
      defaults: defaultTexts(settings),
    });
  else if (asked("version") || asked("v")) output = `${settings.name} version ${settings.version}\n`;
  if (output !== undefined)
    return { options: {}, sources: new Map(), logLevel: undefined, logFormat: undefined, flags, warnings: [], output };

  const { options, sources } = applyServiceFlags(flags, own);
  const warnings = ignoredVariables(env).map(
    ([variable, piece]) => `${variable} is set, but this version has no ${piece} yet: ignored`,
  );
  for (const [variable, meant] of misspeltVariables(env, definitions.values()))
    warnings.push(`${variable} is set, and nothing reads it; did you mean ${meant}?`);
  for (const kind of ["registry", "transport"] as const) {
    const chosen = options[kind] ?? settings[kind];
    if (options[`${kind}Address`] === undefined || typeof chosen !== "string") continue;
    if (builtIn[kind].includes(pluginName(kind, chosen)) && plugins.get(kind, pluginName(kind, chosen)) === undefined)
      warnings.push(
        `${sources.get(`${kind}Address`)} is set, but the ${kind} is ${chosen}, which takes no address: ignored; choose one by --${kind} or MICRO_${kind.toUpperCase()}`,
      );
  }
  if (env["MICRO_TLS_INSECURE"] === "true") {
    if (typeof (options.transport ?? settings.transport) === "string") options.insecureSkipVerify = true;
    else warnings.push("MICRO_TLS_INSECURE is set, but the transport was made elsewhere: ignored");
  }
  const logLevel = read("MICRO_LOG_LEVEL", env, parseLogLevel);
  const logFormat = read("MICRO_LOG_FORMAT", env, parseLogFormat);
  return { options, sources, logLevel, logFormat, flags, warnings, output };
}

/** Print a text and end the process: help to stdout with code 0, an error to stderr with code 1. */
export async function endProcess(code: number, text: string, exit: (code: number) => void): Promise<void> {
  const stream = code === 0 ? process.stdout : process.stderr;
  // A pipe may take it late.
  await new Promise<void>((resolve) => void stream.write(text, () => resolve()));
  exit(code);
}

async function loadPlugins(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  plugins: PluginTable,
): Promise<void> {
  const typed = scanFlag("plugin", args);
  const source = typed === undefined ? "MICRO_PLUGIN" : "--plugin";
  for (const module of typed ?? splitList(env["MICRO_PLUGIN"] ?? "")) {
    const missing = `${source}: ${JSON.stringify(module)} cannot be found`;
    const descriptors = await importPlugins(module, missing);
    try {
      plugins.add(descriptors, module);
    } catch (error) {
      throw new UsageError(`${source}: ${(error as Error).message}`, { cause: error });
    }
  }
}

/** Plugins chosen by name may bring flags, so they are loaded before flags are read. */
async function loadChosen(
  settings: ServiceSettings,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  plugins: PluginTable,
): Promise<void> {
  for (const kind of pieceNames) {
    const chosen = scanFlag(kind, args)?.at(-1) ?? (env[`MICRO_${kind.toUpperCase()}`] || settings[kind]);
    if (typeof chosen !== "string" || builtIn[kind].includes(pluginName(kind, chosen))) continue;
    try {
      await plugins.load(kind, chosen, kind, builtIn[kind]);
    } catch (error) {
      // Reported once the flags are known to be right, when the pieces are loaded; --help needs none of them.
      if (!(error instanceof UsageError)) throw error;
    }
  }
}

function read<T>(
  variable: string,
  env: Readonly<Record<string, string | undefined>>,
  parse: (text: string) => T,
): T | undefined {
  const text = env[variable];
  if (text === undefined || text === "") return undefined;
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(`${variable}: ${(error as Error).message}`, { cause: error });
  }
}

/** Values without a flag or variable, as one would write them. */
function defaultTexts(settings: ServiceSettings): ReadonlyMap<string, string> {
  return new Map([
    ["client", pieceName(settings.client)],
    ["client_request_timeout", formatDuration(settings.timeoutMs ?? 5000)],
    ["client_retries", String(settings.retries ?? 1)],
    ["client_pool_size", String(settings.poolSize ?? 100)],
    ["client_pool_ttl", formatDuration(settings.poolTtlMs ?? 60_000)],
    ["register_ttl", String(settings.registerTtlMs / 1000)],
    ["register_interval", String(settings.registerIntervalMs / 1000)],
    ["server", pieceName(settings.server)],
    ["server_name", settings.name],
    ["server_version", settings.version],
    ["server_address", settings.address],
    ["broker", pieceName(settings.broker)],
    ["broker_address", settings.brokerAddress.join(",")],
    ["registry", pieceName(settings.registry)],
    ["registry_address", settings.registryAddress.join(",")],
    ["transport", pieceName(settings.transport)],
    ["transport_address", settings.transportAddress.join(",")],
    ["selector", pieceName(settings.selector)],
  ]);
}

function pieceName(value: { readonly name: string } | string): string {
  return typeof value === "string" ? value : value.name;
}
